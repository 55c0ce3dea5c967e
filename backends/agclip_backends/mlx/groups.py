"""Leaves that are worked on together: an operation costs more than a small leaf does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from agclip import adapters
from agclip.adapters import kind_of

SMALL = 1 << 13
"""Elements up to which leaves of one shape are joined, which copies them."""


def alike(leaves: Sequence[Any]) -> list[list[int]]:
    """Group the positions of small leaves of one shape and dtype; others stay by themselves."""
    groups: dict[Any, list[int]] = {}
    for i, (leaf, count) in enumerate(zip(leaves, adapters.counts(leaves), strict=True)):
        key = (leaf.shape, kind_of(leaf.dtype)) if 0 < count <= SMALL else i
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def joined(leaves: Sequence[Any]) -> Any:
    """Return leaves of one shape one after the other, along a new or their first axis."""
    return mx.concatenate(list(leaves)) if leaves[0].ndim else mx.stack(list(leaves))


def apart(joined: Any, like: Any, count: int) -> Sequence[Any]:
    """Return the leaves again, each of the shape of one."""
    return mx.split(joined, count) if like.ndim else mx.unstack(joined)
