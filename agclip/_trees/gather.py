"""From a tree to its leaves: taken apart, and every leaf checked before anything is computed."""

from __future__ import annotations

from functools import partial
from typing import Any

from agclip import config
from agclip._backends import kernels, registry
from agclip._backends.backend import Backend
from agclip._backends.registry import backend_for
from agclip._trees import advice, aside, default_backend, distinct, foreign
from agclip._trees import tree as trees
from agclip._trees.leaf_checks import allowed, misplaced, one_by_one
from agclip._trees.leaves import Leaves, dearest, path_of
from agclip._trees.literals import Literal, materialise
from agclip._trees.paired import flatten_like
from agclip._trees.structure import LEAF, Node, Structure, paths
from agclip._typing import Array, Device, Tree
from agclip.distributed._ranks import Parts


def gather(
    tree: Tree,
    name: str,
    *,
    families: tuple[str, str] = ("real", "complex"),
    listed: bool = False,
    inplace: bool = False,
) -> Leaves:
    """Take a tree apart and check every leaf before anything is computed.

    Args:
        tree: The tree.
        name: The argument it came in.
        families: The kinds of dtype that are allowed.
        listed: Whether a list at the top is a list of tensors even if it holds numbers only.
        inplace: Whether the leaves are going to be overwritten.

    Returns:
        The leaves; numbers have become arrays.

    Raises:
        TypeError: If a leaf is no array, of a wrong dtype, of another library than the others, or
            cannot be overwritten although it has to be.
        ValueError: If a nested list of numbers is ragged or holds a number that does not fit.
    """
    found, structure = trees.flatten(tree, name, listed=listed)
    try:
        return _gathered(found, structure, name, families, inplace=inplace)
    except RecursionError:
        advice.refuse_depth(name)


def gather_like(leaves: Leaves, tree: Tree, name: str) -> Leaves:
    """Take apart a tree that must have the structure, shapes and library of given leaves.

    Raises:
        TypeError: As `gather`, and if the libraries differ.
        ValueError: If the structures or shapes differ.
    """
    found = flatten_like(leaves.structure, tree, name)
    for leaf, path in zip(found, paths(leaves.structure, name), strict=True):
        known = isinstance(leaf, Literal) or registry.resolve(leaf) is not None
        if not known or (not isinstance(leaf, Literal) and aside.holds_nothing(leaf)):
            kind = type(leaf).__name__
            msg = f"`{name}` must hold arrays wherever `{leaves.name}` does; got {kind} at {path}."
            raise TypeError(msg)
    families, structure = ("real", "complex"), leaves.structure
    if type(structure) is Node:
        structure = structure._replace(types=None)  # those of the other tree
    others = _gathered(found, structure, name, families, inplace=False, sparse=False)
    if others.backend != leaves.backend:
        msg = (
            f"`{name}` must hold arrays of the library of `{leaves.name}`; got "
            f"{others.backend.name} and {leaves.backend.name}. Convert one of them first."
        )
        raise TypeError(msg)
    for i, (one, other) in enumerate(zip(leaves.objects().arrays, others.arrays, strict=True)):
        part = leaves.sparse[i] if leaves.sparse else None
        if part is not None and (part.size is None or not hasattr(one, "shape")):
            continue
        if tuple(one.shape) != tuple(other.shape):
            msg = (
                f"`{name}` must have the shapes of `{leaves.name}`; got {tuple(other.shape)} at "
                f"{others.path(i)} and {tuple(one.shape)} at {leaves.path(i)}. Pass the parameters "
                f"that these are the gradients of."
            )
            raise ValueError(msg)
    return others


def _gathered(
    found: list[Any],
    structure: Structure,
    name: str,
    families: tuple[str, str],
    *,
    inplace: bool,
    sparse: bool = True,
    own: bool = False,
) -> Leaves:
    """Return leaves of one library; `own` says that those of others have been taken over."""
    known = structure.types if type(structure) is Node else None
    types = set(map(type, found)) if known is None else {*known}
    asked = "auto" if own else config.current().backend
    if len(types) > 1 and aside.several(types):
        found, structure = aside.settled(found, structure)
        types = set(map(type, found))
    if Literal not in types:
        if not found:
            return Leaves(name, default_backend.home.backend, found, [], structure)
        if asked != "auto" and foreign.among(types, asked):
            return _taken_over(found, structure, name, families, inplace=inplace)
        backend = backend_for(found, types, lambda i: path_of(structure, name, i))
        return _checked(
            name, backend, found, types, structure, families, inplace=inplace, sparse=sparse
        )
    literal = [isinstance(leaf, Literal) for leaf in found]
    if inplace:
        first = literal.index(True)
        what = found[first].described()
        msg = (
            f"`{name}` must hold arrays that can be written in place; got {what} at "
            f"{path_of(structure, name, first)}. Use the function without the "
            f"underscore, which returns new arrays."
        )
        raise TypeError(msg)
    arrays = [leaf for leaf, is_literal in zip(found, literal, strict=True) if not is_literal]
    places = [i for i, is_literal in enumerate(literal) if not is_literal]
    types.remove(Literal)
    if arrays and asked != "auto" and foreign.among(types, asked):
        return _taken_over(found, structure, name, families, inplace=inplace)
    if arrays:
        backend = backend_for(arrays, types, lambda i: path_of(structure, name, places[i]))
        device = backend.device(arrays[0])
    else:
        backend, device = default_backend.home
    with backend.context():
        found = [
            _made(leaf, backend, device, name, path, integers="integer" in families)
            if isinstance(leaf, Literal)
            else leaf
            for leaf, path in zip(found, paths(structure, name), strict=True)
        ]
    types = set(map(type, found))
    return _checked(
        name, backend, found, types, structure, families, inplace=inplace, sparse=sparse
    )


def _made(
    literal: Literal, backend: Backend, device: Device, name: str, path: str, *, integers: bool
) -> Array:
    if literal.exchanged:
        return foreign.exchanged(literal.value, name, path)
    return materialise(literal, backend, device, path, integers=integers)


def _taken_over(
    found: list[Any],
    structure: Structure,
    name: str,
    families: tuple[str, str],
    *,
    inplace: bool,
) -> Leaves:
    """Gather leaves of several libraries as arrays of the configured one."""
    found, structure = aside.without(found, structure)
    brought = []
    for leaf, path in zip(found, paths(structure, name), strict=True):
        owner = None if isinstance(leaf, Literal) else registry.resolve(leaf)
        if owner is None:
            brought.append(leaf)
            continue
        alone = Node(list, [path.removeprefix(name)], [LEAF], "{}")
        _checked(name, owner, [leaf], {type(leaf)}, alone, families, inplace=inplace)
        brought.append(foreign.take_over(leaf, name, path))
    if all(x is y for x, y in zip(brought, found, strict=True)):
        # Nothing was another library's: a compiler does not see what classes become known.
        return _gathered(found, structure, name, families, inplace=inplace, own=True)
    if inplace:
        owners = [owner for leaf in found if (owner := registry.resolve(leaf)) is not None]
        distinct.require_apart(owners, found, name, partial(path_of, structure, name))
    leaves = _gathered(brought, structure, name, families, inplace=False, own=True)
    return leaves._replace(originals=found)


def _checked(
    name: str,
    backend: Backend,
    found: list[Array],
    types: set[type],
    structure: Structure,
    families: tuple[str, str],
    *,
    inplace: bool,
    sparse: bool = False,
    uncut: bool = False,
) -> Leaves:
    given = found
    if backend.read is not kernels.read:
        found = list(backend.read(given, types))
        types = set(map(type, found))
    batch = backend.survey(found, types, inplace)
    cut = None if batch is not None or uncut else backend.parts(found, types)
    if cut is not None and not (cut.axes and config.current().on_shard == "whole"):
        return _cut(name, backend, found, cut, structure, families, inplace=inplace)
    said, parts = None, None
    if backend.misplaced is not kernels.nothing and name != "params":  # parameters by right
        said = misplaced(name, backend, found if batch is None else batch, types, structure)
    if batch is None and sparse and backend.sparse is not kernels.nothing:
        parts = backend.sparse(found, types)
        if parts is not None:
            found = [x if p is None else p.values for x, p in zip(found, parts, strict=True)]
            if not inplace or all(part is None or part.unwritable is None for part in parts):
                batch = backend.survey(found, set(map(type, found)), inplace)
    if batch is not None and allowed(batch.kinds, families):
        if inplace and not batch.distinct:
            distinct.marked(backend, batch, name, partial(path_of, structure, name))
        return Leaves(
            name, backend, batch, batch.column, structure, None, said, batch.access, parts
        )
    leaves = Leaves(name, backend, found, [], structure, None, said, sparse=parts)
    leaves = one_by_one(leaves, given, families, inplace=inplace)
    if any(kind.family == "none" for kind in leaves.kinds):
        found, structure = aside.without(given, structure)
        return _gathered(found, structure, name, families, inplace=inplace, sparse=sparse)
    arrays = distinct.marked(backend, found, name, leaves.path) if inplace else found
    return leaves._replace(arrays=arrays, access=dearest(backend, found))


def _cut(
    name: str,
    backend: Backend,
    found: list[Array],
    parts: Parts,
    structure: Structure,
    families: tuple[str, str],
    *,
    inplace: bool,
) -> Leaves:
    """Gather what is here of leaves that may be cut over processes."""
    if parts.refused is not None:
        position, reason = parts.refused
        path = path_of(structure, name, position)
        msg = f"`{name}` must hold dense arrays; got one that {reason} at {path}. Convert it first."
        raise TypeError(msg)
    types = set(map(type, parts.here))
    leaves = _checked(
        name, backend, parts.here, types, structure, families, inplace=inplace, uncut=True
    )
    wholes = None if parts.rejoin is None else found
    leaves = leaves._replace(cuts=parts.cuts, wholes=wholes, parts=parts)
    if "integer" in families:  # their elements are clipped
        leaves.require_summed()
    return leaves
