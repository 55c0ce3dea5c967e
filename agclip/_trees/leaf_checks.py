"""What is checked of each leaf before anything is computed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from agclip._backends.backend import Backend
from agclip._backends.dtypes import Kind, kind_of
from agclip._backends.questions import Misplaced
from agclip._backends.sparse import Sparse
from agclip._trees.leaves import Leaves, path_of
from agclip._trees.structure import Structure
from agclip._typing import Array

_EXPECTED = {
    ("real", "complex"): "real or complex floating-point arrays",
    ("real", "integer"): "real floating-point or integer arrays",
}


def one_by_one(
    leaves: Leaves, given: Sequence[Any], families: tuple[str, str], *, inplace: bool
) -> Leaves:
    """Return leaves with their kinds, each checked by itself, up to one that holds nothing."""
    kinds: list[Kind] = []
    for i, leaf in enumerate(leaves.arrays):
        kinds.append(_kind(leaves, i))
        if kinds[-1].family == "none":
            break
        if kinds[-1].family not in families:
            msg = (
                f"`{leaves.name}` must hold {_EXPECTED[families]}; got {kinds[-1].name} at "
                f"{leaves.path(i)}. Convert it with astype, or take it out of the tree."
            )
            raise TypeError(msg)
        part = leaves.sparse[i] if leaves.sparse else None
        reason = _unwritable(leaves.backend, given[i], leaf, part) if inplace else None
        if reason is not None:
            msg = (
                f"`{leaves.name}` must hold arrays that can be written in place; got one that "
                f"{reason} at {leaves.path(i)}. Use the function without the underscore, which "
                f"returns new arrays."
            )
            raise TypeError(msg)
    return leaves._replace(kinds=kinds)


def _kind(leaves: Leaves, i: int) -> Kind:
    """Return the kind of a leaf; a TypeError if it is no dense array."""
    leaf = leaves.arrays[i]
    reason = leaves.backend.refuse(leaf)
    if reason is not None:
        msg = (
            f"`{leaves.name}` must hold dense arrays; got one that {reason} at {leaves.path(i)}. "
            f"Convert it first."
        )
        raise TypeError(msg)
    return kind_of(leaf.dtype)


def _unwritable(backend: Backend, given: Any, leaf: Array, part: Sparse | None) -> str | None:
    if part is None:
        return backend.unwritable(given)
    return part.unwritable or backend.unwritable(leaf)


@functools.cache
def allowed(kinds: frozenset[Kind], families: tuple[str, str]) -> bool:
    return all(kind.family in families for kind in kinds)


def misplaced(
    name: str,
    backend: Backend,
    found: Sequence[Array],
    types: set[type],
    structure: Structure,
) -> Misplaced | None:
    """Return what may be a parameter in the place of a gradient.

    Raises:
        TypeError: If nothing else can be meant.
    """
    said = backend.misplaced(found, types)
    if said is not None and said.wrong:
        path = path_of(structure, name, said.position)
        msg = f"`{name}` must hold gradients; got {said.found} at {path}. {said.instead}"
        raise TypeError(msg)
    return said
