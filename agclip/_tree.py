"""Trees of arrays: taken apart into a list of leaves, and put together again as they were."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, ValuesView
from typing import Any, NamedTuple

from agclip import _plugins, _registry
from agclip._literals import Literal, is_literal
from agclip._typing import Tree

Unflatten = Callable[[list[Any]], Tree]


class Node(NamedTuple):
    """A container: how to build it, the keys of its children, and what they are."""

    unflatten: Unflatten
    keys: list[str] | None
    children: list[Any]


class _Leaf:
    """The place of a leaf in a structure."""


LEAF = _Leaf()
Structure = Node | _Leaf | None

_containers: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {}


def register_container(
    cls: type,
    flatten: Callable[[Any], tuple[Any, ...]],
    unflatten: Callable[[Any, list[Any]], Any],
) -> None:
    """Make instances of a class containers, so that trees may hold them.

    The two functions follow the convention of `jax.tree_util.register_pytree_node`.

    Args:
        cls: The class; its subclasses are not included.
        flatten: `flatten(obj)` → `(children, aux)`, or `(children, aux, keys)` where `keys` are
            the names of the children in error messages.
        unflatten: `unflatten(aux, children)` → a new object.

    Raises:
        TypeError: If `cls` is not a class, or `flatten` or `unflatten` cannot be called.
    """
    if not isinstance(cls, type):
        msg = f"`cls` must be a class; got an instance of {type(cls).__name__}."
        raise TypeError(msg)
    for name, function in (("flatten", flatten), ("unflatten", unflatten)):
        if not callable(function):
            msg = f"`{name}` must be callable; got {type(function).__name__}."
            raise TypeError(msg)
    _containers[cls] = (flatten, unflatten)


def flatten(tree: Tree, name: str, *, listed: bool = False) -> tuple[list[Any], Structure]:
    """Take a tree apart.

    Args:
        tree: The tree.
        name: The argument it came in, for error messages.
        listed: Whether a list at the top is a list of tensors even if it holds numbers only.

    Returns:
        The leaves (arrays and `Literal`s) in order, and the structure that `unflatten` takes.

    Raises:
        TypeError: If the tree holds something that is neither an array nor a container.
    """
    leaves: list[Any] = []
    try:
        if listed and isinstance(tree, (list, tuple)):
            return leaves, _container(tree, leaves)
        return leaves, _walk(tree, leaves)
    except _NotATreeError as error:
        found, path = error.found, name + error.path
        if hasattr(found, "dtype") and hasattr(found, "shape") and not isinstance(found, type):
            msg = (
                f"`{name}` must hold arrays of a library that agclip knows; got "
                f"{type(found).__module__}.{type(found).__qualname__} at {path}. A library that "
                f"follows the Python Array API standard needs no more; for another one see "
                f"agclip.register_backend."
            )
        else:
            msg = (
                f"`{name}` must be an array, a list of numbers, or a list, tuple, dict or "
                f"registered container of them; got {describe(found)} at {path}. Take it out, or "
                f"see agclip.register_container."
            )
        raise TypeError(msg) from None


def describe(x: Any) -> str:
    """Name the kind of an object, for an error message."""
    return f"the class {x.__qualname__}" if isinstance(x, type) else type(x).__name__


def flatten_like(structure: Structure, tree: Tree, name: str) -> list[Any]:
    """Take a tree apart along the structure of another; what stands at its Nones is left out.

    Raises:
        ValueError: If a container has other keys, or a leaf stands where a container should.
    """
    leaves: list[Any] = []
    _walk_like(structure, tree, name, leaves)
    return leaves


def _walk_like(structure: Structure, x: Any, path: str, leaves: list[Any]) -> None:
    if structure is None:
        return
    if not isinstance(structure, Node):
        if x is None:
            msg = f"`params` must hold an array wherever `grads` does; got None at {path}."
            raise ValueError(msg)
        leaves.append(Literal(x) if is_literal(x) else x)
        return
    try:
        children, keys, _ = _open(x)
    except _NotATreeError:
        children, keys = [], [describe(x)]
    if keys != structure.keys or len(children) != len(structure.children):
        msg = (
            f"`params` must have the structure of `grads`; got {_outline(keys, children)} at "
            f"{path} where `grads` has {_outline(structure.keys, structure.children)}."
        )
        raise ValueError(msg)
    for position, (child, other) in enumerate(zip(structure.children, children, strict=True)):
        key = keys[position] if keys else f"[{position}]"
        _walk_like(child, other, path + key, leaves)


def _outline(keys: list[str] | None, children: list[Any]) -> str:
    return f"a container of {len(children)}" if keys is None else ", ".join(keys) or "nothing"


class _NotATreeError(Exception):
    def __init__(self, found: Any) -> None:
        self.found = found
        self.path = ""


def _walk(x: Any, leaves: list[Any]) -> Structure:
    if x is None:
        return None
    if type(x) in _registry.BY_TYPE:
        leaves.append(x)
        return LEAF
    if is_literal(x):
        leaves.append(Literal(x))
        return LEAF
    if isinstance(x, (dict, list, tuple)) or type(x) in _containers:
        return _container(x, leaves)
    if _registry.resolve(x) is not None:
        leaves.append(x)
        return LEAF
    return _container(x, leaves)


def _container(x: Any, leaves: list[Any]) -> Node:
    children, keys, build = _open(x)
    structures = []
    for position, child in enumerate(children):
        try:
            structures.append(_walk(child, leaves))
        except _NotATreeError as error:
            error.path = (keys[position] if keys else f"[{position}]") + error.path
            raise
    return Node(build, keys, structures)


def _open(x: Any) -> tuple[list[Any], list[str] | None, Unflatten]:
    """Return the children of a container, their keys (None: positions), and how to rebuild it."""
    cls = type(x)
    if cls in _containers:
        return _open_registered(x)
    if isinstance(x, dict):
        return list(x.values()), [f"[{key!r}]" for key in x], _dict_builder(x)
    if isinstance(x, list):
        return list(x), None, list if cls is list else _list_builder(x)
    if isinstance(x, tuple):
        fields = getattr(x, "_fields", None)
        if fields is None:
            return list(x), None, cls
        return list(x), [f".{field}" for field in fields], lambda children: cls(*children)
    if isinstance(x, (Iterator, ValuesView)):
        return list(x), None, list
    for flattener in _plugins.flatteners():
        opened = flattener(x)
        if opened is not None:
            return opened
    raise _NotATreeError(x)


def _open_registered(x: Any) -> tuple[list[Any], list[str] | None, Unflatten]:
    take_apart, put_together = _containers[type(x)]
    children, aux, *keys = take_apart(x)
    names = [f"[{key!r}]" for key in keys[0]] if keys else None
    return list(children), names, lambda new: put_together(aux, new)


def _dict_builder(original: dict[Any, Any]) -> Unflatten:
    keys = list(original)
    if type(original) is dict:
        return lambda children: dict(zip(keys, children, strict=True))

    def build(children: list[Any]) -> dict[Any, Any]:
        # A copy keeps what a subclass carries besides its items (defaultdict, OrderedDict, …).
        new = copy.copy(original)
        for key, child in zip(keys, children, strict=True):
            new[key] = child
        return new

    return build


def _list_builder(original: list[Any]) -> Unflatten:
    def build(children: list[Any]) -> list[Any]:
        new = copy.copy(original)
        new[:] = children
        return new

    return build


def unflatten(structure: Structure, leaves: Iterator[Any]) -> Tree:
    """Put a tree together from its structure and an iterator over its leaves."""
    if structure is None:
        return None
    if isinstance(structure, Node):
        return structure.unflatten([unflatten(child, leaves) for child in structure.children])
    return next(leaves)


def paths(structure: Structure, prefix: str) -> Iterator[str]:
    """Yield the path of every leaf, such as `grads['layer'][0]`, in order."""
    if isinstance(structure, Node):
        for position, child in enumerate(structure.children):
            key = structure.keys[position] if structure.keys else f"[{position}]"
            yield from paths(child, prefix + key)
    elif structure is not None:
        yield prefix
