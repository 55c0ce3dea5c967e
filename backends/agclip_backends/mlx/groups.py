"""Leaves that are worked on together: an operation costs more than a small leaf does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from agclip import adapters
from agclip.adapters import Kind, LeafBatch, kind_of
from agclip_backends import _alike

SMALL = 1 << 13
"""Elements up to which leaves of one shape are joined, which copies them."""


class Grouped(LeafBatch):
    """The leaves of one call: they are grouped and joined once, to be measured and multiplied."""

    __slots__ = ("groups", "joined")

    def __init__(self, leaves: Sequence[Any], kinds: Sequence[Kind], **known: Any) -> None:
        parts = [2 if kind.family == "complex" else 1 for kind in kinds]
        counts = [n * leaf.size for n, leaf in zip(parts, leaves, strict=True)]
        LeafBatch.__init__(self, leaves, kinds, counts, **known)
        self.groups: list[list[int]] | None = None
        self.joined: dict[int, Any] = {}


def alike(leaves: Sequence[Any]) -> list[list[int]]:
    """Group the positions of small leaves of one shape and dtype; others stay by themselves."""
    if not isinstance(leaves, Grouped):
        return _grouped(leaves, [kind_of(leaf.dtype) for leaf in leaves])
    if leaves.groups is None:
        leaves.groups = _grouped(leaves, leaves.column)
    return leaves.groups


def _grouped(leaves: Sequence[Any], kinds: Sequence[Kind]) -> list[list[int]]:
    counts, shapes = adapters.counts(leaves), [leaf.shape for leaf in leaves]
    if counts and 0 < counts[0] <= SMALL:
        count = len(shapes)
        if shapes.count(shapes[0]) == count == kinds.count(kinds[0]):
            return [list(range(count))]
    members = zip(shapes, counts, kinds, strict=True)
    return _alike.alike(
        (shape, kind) if 0 < count <= SMALL else None for shape, count, kind in members
    )


def joined(leaves: Sequence[Any], places: Sequence[int]) -> Any:
    """Return leaves of one shape one after the other, along a new or their first axis."""
    kept = leaves.joined if isinstance(leaves, Grouped) else {}
    if places[0] not in kept:
        members = [leaves[i] for i in places]
        kept[places[0]] = mx.concatenate(members) if members[0].ndim else mx.stack(members)
    return kept[places[0]]


def apart(joined: Any, like: Any, count: int) -> Sequence[Any]:
    """Return the leaves again, each of the shape of one."""
    split: Any = mx.split if like.ndim else lambda rows, _: mx.unstack(rows)
    parts: Sequence[Any] = split(joined, count)
    return parts
