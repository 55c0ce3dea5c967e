"""The leaves of one call: gathered from a tree, checked, and put back."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agclip import _registry, _tree
from agclip._backend import Backend
from agclip._dtypes import Kind, kind_of
from agclip._registry import backend_for, get_backend
from agclip._typing import Access, Array, Tree

_DEAREST_FIRST: tuple[Access, ...] = ("never", "sync", "graph", "free")
_FLOAT32_MAX = 2.0**128 - 2.0**104
_EXPECTED = {
    ("real", "complex"): "real or complex floating-point arrays",
    ("real", "integer"): "real floating-point or integer arrays",
}


@dataclass(frozen=True, slots=True)
class Leaves:
    """The arrays of a tree, their one backend, and how to put the tree together again."""

    name: str
    backend: Backend
    arrays: list[Array]
    kinds: list[Kind]
    structure: _tree.Structure

    def path(self, index: int) -> str:
        """Return the path of a leaf, such as `t['w'][0]`."""
        return _path(self.structure, self.name, index)

    def rebuild(self, arrays: Sequence[Array]) -> Tree:
        """Return the tree with other arrays in the places of its leaves."""
        return _tree.unflatten(self.structure, iter(arrays))

    def access(self) -> Access:
        """Return what reading the values costs, the dearest leaf deciding."""
        costs = {self.backend.access(leaf) for leaf in self.arrays}
        return next((cost for cost in _DEAREST_FIRST if cost in costs), "free")


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
    found, structure = _tree.flatten(tree, name, listed=listed)
    return _gathered(found, structure, name, families, inplace=inplace)


def gather_like(leaves: Leaves, tree: Tree, name: str) -> Leaves:
    """Take apart a tree that must have the structure, shapes and library of given leaves.

    Raises:
        TypeError: As `gather`, and if the libraries differ.
        ValueError: If the structures or shapes differ.
    """
    found = _tree.flatten_like(leaves.structure, tree, name)
    others = _gathered(found, leaves.structure, name, ("real", "complex"), inplace=False)
    if others.backend is not leaves.backend:
        msg = (
            f"`{name}` must hold arrays of the library of `{leaves.name}`; got "
            f"{others.backend.name} and {leaves.backend.name}. Convert one of them first."
        )
        raise TypeError(msg)
    for i, (one, other) in enumerate(zip(leaves.arrays, others.arrays, strict=True)):
        if tuple(one.shape) != tuple(other.shape):
            msg = (
                f"`{name}` must have the shapes of `{leaves.name}`; got {tuple(other.shape)} at "
                f"{others.path(i)} and {tuple(one.shape)} at {leaves.path(i)}."
            )
            raise ValueError(msg)
    return others


def _gathered(
    found: list[Any],
    structure: _tree.Structure,
    name: str,
    families: tuple[str, str],
    *,
    inplace: bool,
) -> Leaves:
    for leaf, path in zip(found, _tree.paths(structure, name), strict=True):
        if not isinstance(leaf, _tree.Literal) and _registry.resolve(leaf) is None:
            msg = f"`{name}` must hold arrays; got {type(leaf).__name__} at {path}."
            raise TypeError(msg)
    literal = [isinstance(leaf, _tree.Literal) for leaf in found]
    if inplace and any(literal):
        msg = (
            f"`{name}` must hold arrays that can be written in place; got Python numbers at "
            f"{_path(structure, name, literal.index(True))}. Use the function without the "
            f"underscore, which returns new arrays."
        )
        raise TypeError(msg)
    arrays = [leaf for leaf, is_literal in zip(found, literal, strict=True) if not is_literal]
    places = [i for i, is_literal in enumerate(literal) if not is_literal]
    backend = (
        backend_for(arrays, lambda i: _path(structure, name, places[i]))
        if arrays
        else get_backend()
    )
    if any(literal):
        found = _materialise(found, backend, arrays, structure, name, families)
    leaves = Leaves(name, backend, found, [kind_of(leaf.dtype) for leaf in found], structure)
    _check(leaves, families, inplace=inplace)
    return leaves


def _path(structure: _tree.Structure, name: str, index: int) -> str:
    return next(itertools.islice(_tree.paths(structure, name), index, None))


def _check(leaves: Leaves, families: tuple[str, str], *, inplace: bool) -> None:
    backend = leaves.backend
    for i, (leaf, kind) in enumerate(zip(leaves.arrays, leaves.kinds, strict=True)):
        reason = backend.refuse(leaf)
        if reason is not None:
            msg = (
                f"`{leaves.name}` must hold dense arrays; got one that {reason} at "
                f"{leaves.path(i)}. Convert it first."
            )
            raise TypeError(msg)
        if kind.family not in families:
            msg = (
                f"`{leaves.name}` must hold {_EXPECTED[families]}; got {kind.name} at "
                f"{leaves.path(i)}. Convert it with astype, or take it out of the tree."
            )
            raise TypeError(msg)
        reason = backend.unwritable(leaf) if inplace else None
        if reason is not None:
            msg = (
                f"`{leaves.name}` must hold arrays that can be written in place; got one that "
                f"{reason} at {leaves.path(i)}. Use the function without the underscore, which "
                f"returns new arrays."
            )
            raise TypeError(msg)


def _materialise(
    found: list[Any],
    backend: Backend,
    arrays: list[Array],
    structure: _tree.Structure,
    name: str,
    families: tuple[str, str],
) -> list[Any]:
    """Make arrays of the Python numbers: float32, so that every backend gives the same result."""
    device = backend.device(arrays[0]) if arrays else None
    where = {} if device is None else {"device": device}
    made = []
    for leaf, path in zip(found, _tree.paths(structure, name), strict=True):
        if not isinstance(leaf, _tree.Literal):
            made.append(leaf)
            continue
        _tree.shape_of_literal(leaf.value, path)
        dtype = _literal_dtype(backend, list(_numbers(leaf.value)), path, families)
        made.append(backend.xp.asarray(leaf.value, dtype=dtype, **where))
    return made


def _numbers(value: Any) -> Iterator[complex]:
    if isinstance(value, (list, tuple)):
        for row in value:
            yield from _numbers(row)
    else:
        yield value


def _literal_dtype(
    backend: Backend, numbers: list[complex], path: str, families: tuple[str, str]
) -> Any:
    types = set(map(type, numbers))
    if types == {bool}:
        return backend.xp.bool
    integral = types <= {int, bool} and "integer" in families
    limit = 2**31 - 1 if integral else _FLOAT32_MAX
    for number in numbers:
        if limit < abs(number) < float("inf"):
            kind = "a 32-bit integer" if integral else "float32"
            msg = f"numbers at {path} must fit {kind}; got {number!r}. Pass an array instead."
            raise ValueError(msg)
    if integral:
        return None
    return backend.xp.complex64 if complex in types else backend.xp.float32


def warn_empty(name: str) -> None:
    """Warn, on behalf of the caller's line, that a call has nothing to clip."""
    msg = f"`{name}` holds no array: nothing is clipped, and the norm is 0."
    depth = 1
    while sys._getframe(depth).f_globals.get("__name__", "").partition(".")[0] == "agclip":
        depth += 1
    warnings.warn(msg, UserWarning, stacklevel=depth + 1)
