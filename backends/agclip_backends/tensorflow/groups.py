"""Leaves that are worked on together: an operation costs more than a small leaf does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agclip_backends import _alike

SMALL = 1 << 10
"""Elements up to which leaves of one shape are stacked, which copies them, and added in a row."""
LARGE = 1 << 15
"""Elements from which on a leaf costs more than an operation: worth a branch, or a compiler."""


def alike(leaves: Sequence[Any]) -> list[list[int]]:
    """Group the positions of small leaves of one shape and dtype; others stay by themselves."""
    keys = ((tuple(leaf.shape), leaf.dtype) if is_small(leaf) else None for leaf in leaves)
    return _alike.alike(keys)


def is_small(leaf: Any) -> bool:
    """Tell whether a leaf is known to be small."""
    count = leaf.shape.num_elements()
    return count is not None and count <= SMALL


def is_large(leaf: Any) -> bool:
    """Tell whether a leaf is large, or may be."""
    count = leaf.shape.num_elements()
    return count is None or count >= LARGE
