"""Trees that go with another one, leaf by leaf: parameters with their gradients."""

from __future__ import annotations

import contextlib
from typing import Any

from agclip._backends import registry
from agclip._checks import describe
from agclip._trees import foreign
from agclip._trees.literals import Literal, is_literal
from agclip._trees.structure import Kept, Node, Structure
from agclip._trees.tree import NotATreeError, open_container
from agclip._typing import Tree


def flatten_like(structure: Structure, tree: Tree, name: str) -> list[Any]:
    """Take a tree apart along the structure of another; what stands at its Nones is left out.

    Where containers have keys these tell what belongs together, in the order of the structure:
    other libraries sort them.

    Raises:
        ValueError: If a container has other keys, or a leaf stands where a container should.
    """
    leaves: list[Any] = []
    _walk_like(structure, tree, name, leaves)
    return leaves


def _walk_like(structure: Structure, x: Any, path: str, leaves: list[Any]) -> None:
    if structure is None or isinstance(structure, Kept):
        return
    if not isinstance(structure, Node):
        if x is None:
            msg = f"`params` must hold an array wherever `grads` does; got None at {path}."
            raise ValueError(msg)
        bare = registry.resolve(x) is None and foreign.exchanges(x)
        leaves.append(Literal(x, exchanged=bare) if bare or is_literal(x) else x)
        return
    other = _opened(x)
    members = _in_order(structure, other)
    if members is None:
        msg = (
            f"`params` must have the structure of `grads`; got {other.outline()} at "
            f"{path} where `grads` has {structure.outline()}."
        )
        raise ValueError(msg)
    for position, (child, member) in enumerate(zip(structure.children, members, strict=True)):
        _walk_like(child, member, path + structure.key(position), leaves)


def _in_order(structure: Node, other: Node) -> list[Any] | None:
    """Return the children of a container in the order of another; None if their keys differ."""
    count = len(structure.children)
    if len(other.children) != count or (other.keys is None) != (structure.keys is None):
        return None
    if (other.keys, other.key_format) == (structure.keys, structure.key_format):
        return other.children
    members = {other.key(position): child for position, child in enumerate(other.children)}
    wanted = [structure.key(position) for position in range(count)]
    if len(members) != count or members.keys() != set(wanted):
        return None
    return [members[key] for key in wanted]


def _opened(x: Any) -> Node:
    """Return a container; of anything else its kind in the place of keys, for an error message."""
    if x is not None:  # a container without children to some libraries
        with contextlib.suppress(NotATreeError):
            return open_container(x)
    return Node(list, [describe(x)], [None], "{}")
