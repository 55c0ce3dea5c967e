"""Leaves that are worked on together: an operation costs more than a small leaf does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agclip_backends import _alike

SMALL = 1 << 10
"""Elements up to which leaves of one shape are stacked, which copies them, and added in a row."""
LARGE = 1 << 18
"""Elements from which on a second product costs more than all there is to a branch."""
FEW = 256
"""How many leaves may be given a branch that are not large: to trace one takes a millisecond."""


def alike(leaves: Sequence[Any]) -> list[list[int]]:
    """Group the positions of small leaves of one shape and dtype; others stay by themselves."""
    keys = ((tuple(leaf.shape), leaf.dtype) if is_small(leaf) else None for leaf in leaves)
    return _alike.alike(keys)


def is_small(leaf: Any) -> bool:
    """Tell whether a leaf is known to be small."""
    count = leaf.shape.num_elements()
    return count is not None and count <= SMALL


def without_branches(leaves: Sequence[Any]) -> list[int]:
    """Return the positions of leaves, none small, that no branch is worth: of many, all but large.

    A branch saves one operation on a leaf.
    """
    counts = [leaf.shape.num_elements() for leaf in leaves]
    if len(leaves) <= FEW:
        return []
    return [i for i, n in enumerate(counts) if n is not None and n < LARGE]
