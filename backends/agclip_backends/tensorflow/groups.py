"""Leaves that are worked on together: an operation costs more than a small leaf does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SMALL = 1 << 13
"""Elements up to which leaves of one shape are stacked, which copies them."""


def alike(leaves: Sequence[Any], most: int = SMALL) -> list[list[int]]:
    """Group the positions of small leaves of one shape and dtype; others stay by themselves."""
    groups: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        count = leaf.shape.num_elements()
        small = count is not None and count <= most
        key = (tuple(leaf.shape), leaf.dtype) if small else i
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def is_small(leaf: Any) -> bool:
    """Tell whether a leaf is known to be small."""
    count = leaf.shape.num_elements()
    return count is not None and count <= SMALL
