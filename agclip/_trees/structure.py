"""What a tree is besides its leaves: containers in containers, and the places of the leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from agclip._typing import Tree

Unflatten = Callable[[list[Any]], Tree]

ITEM = "[{!r}]"


class Node(NamedTuple):
    """A container: how to build it, the keys of its children, and what they are."""

    unflatten: Unflatten
    """`dict` of a plain dict, whose keys it does not take."""
    keys: list[Any] | None
    children: list[Any]
    key_format: str = ITEM
    flat: bool = False
    """Whether all children are leaves."""
    holds: bool = False
    """Whether what builds it, or one below it, may hold what was in it."""
    types: set[type] | None = None
    """The classes of its leaves, where they are known."""

    def key(self, position: int) -> str:
        """Return how a child's key reads in a path."""
        if self.keys is None:
            return f"[{position}]"
        return self.key_format.format(self.keys[position])

    def outline(self) -> str:
        """Return what sets the container apart from others."""
        if self.keys is None:
            return f"a container of {len(self.children)}"
        return ", ".join(map(self.key, range(len(self.children)))) or "nothing"


class _Leaf:
    """The place of a leaf in a structure."""


class Kept(NamedTuple):
    """The place of a leaf that takes no part, and is put back as it is."""

    value: Any


LEAF = _Leaf()
Structure = Node | Kept | _Leaf | None


def unflatten(structure: Structure, leaves: Iterator[Any]) -> Tree:
    """Put a tree together from its structure and an iterator over its leaves."""
    if structure is None:
        return None
    if isinstance(structure, Kept):
        return structure.value
    if isinstance(structure, Node):
        if structure.flat:
            children = list(islice(leaves, len(structure.children)))
        else:
            children = [unflatten(child, leaves) for child in structure.children]
        if structure.unflatten is dict:
            return dict(zip(structure.keys or (), children, strict=True))
        return structure.unflatten(children)
    return next(leaves)


def paths(structure: Structure, prefix: str) -> Iterator[str]:
    """Yield the path of every leaf, such as `grads['layer'][0]`, in order."""
    if isinstance(structure, Node):
        for position, child in enumerate(structure.children):
            yield from paths(child, prefix + structure.key(position))
    elif structure is LEAF:
        yield prefix
