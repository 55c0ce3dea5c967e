"""Leaves that are not arrays of the library of the others, and yet no mistake.

JAX gives arrays of the dtype float0, whose elements take no bytes, for the derivatives by integers:
they hold nothing to clip, and keep their places. NumPy's scalars are numbers in any tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Number
from typing import Any

from agclip._backends import registry
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._trees.literals import Literal
from agclip._trees.structure import LEAF, Kept, Node, Structure
from agclip._typing import Array


def holds_nothing(x: Array) -> bool:
    """Tell whether an array has elements of no bytes."""
    # Asked before it is known that this is an array: a lazy object may have lazy answers.
    names = getattr(x.dtype, "names", None)
    return type(names) is tuple and kind_of(x.dtype).family == "none"


def several(types: set[type]) -> bool:
    """Tell whether types of leaves belong to more than one library."""
    # A class that has left the table, since a backend was registered, is found again leaf by leaf.
    known, arrays = registry.BY_TYPE, types - {Literal}
    return len({known[cls].name if cls in known else None for cls in arrays}) > 1


def settled(found: list[Any], structure: Structure) -> tuple[list[Any], Structure]:
    """Return leaves of several libraries without those that hold nothing, scalars as numbers."""
    found, structure = without(found, structure)
    arrays = [x for x in found if not isinstance(x, (Literal, Number))]
    owner = registry.resolve(arrays[0]) if arrays else None
    if owner is None:
        return found, structure
    return [_as_number(x, owner) if isinstance(x, Number) else x for x in found], structure


def _as_number(x: Any, owner: Backend) -> Any:
    """Return another library's scalar as a number of its dtype, if the owner has that."""
    name = kind_of(x.dtype).name
    if registry.resolve(x) == owner or not hasattr(owner.xp, name):
        return x
    return Literal(x.item(), name)


def without(found: Sequence[Any], structure: Structure) -> tuple[list[Any], Structure]:
    """Return the leaves that hold something, and the structure with the others in their places."""
    empty = [not isinstance(x, Literal) and holds_nothing(x) for x in found]
    if not any(empty):
        return list(found), structure
    pairs = zip(found, empty, strict=True)
    kept = _kept(structure, pairs)
    return [x for x, nothing in zip(found, empty, strict=True) if not nothing], kept


def _kept(structure: Structure, leaves: Iterator[tuple[Any, bool]]) -> Structure:
    if isinstance(structure, Node):
        children = [_kept(child, leaves) for child in structure.children]
        return structure._replace(children=children, flat=False, holds=True)
    if structure is not LEAF:
        return structure
    leaf, kept = next(leaves)
    return Kept(leaf) if kept else LEAF
