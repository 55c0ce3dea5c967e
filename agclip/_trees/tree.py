"""Trees of arrays: taken apart into a list of leaves, and put together again as they were."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, ValuesView
from typing import Any, cast

from agclip._backends import entry_points, registry
from agclip._backends.lazy import LazyDict
from agclip._checks import describe
from agclip._trees import advice, foreign, misplaced
from agclip._trees.literals import Literal, is_literal
from agclip._trees.structure import ITEM, LEAF, Node, Structure, Unflatten
from agclip._typing import T, Tree

_PLAIN = ("builtins", "collections")
"""Where classes of dicts are defined that hold what anybody puts into them."""

_containers: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = (
    registry.CONTAINERS
)


def register_container(
    cls: type,
    flatten: Callable[[Any], tuple[Any, ...]],
    unflatten: Callable[[Any, list[Any]], Any],
) -> None:
    """Make instances of a class containers, so that trees may hold them.

    From now on they are, even if they look like arrays, or have been taken for such. The two
    functions follow the convention of `jax.tree_util.register_pytree_node`.

    Args:
        cls: The class; its subclasses are not included.
        flatten: `flatten(obj)` → `(children, aux)`, or `(children, aux, keys)` where `keys` are
            the names of the children in error messages.
        unflatten: `unflatten(aux, children)` → a new object.

    Raises:
        TypeError: If `cls` is not a class, or `flatten` or `unflatten` cannot be called.

    Example:
        >>> class Pair:
        ...     def __init__(self, a, b):
        ...         self.a, self.b = a, b
        >>> agclip.register_container(Pair, lambda p: ((p.a, p.b), None), lambda _, ab: Pair(*ab))
        >>> agclip.clip_by_norm(Pair(np.array([3.0, 4.0]), None), 1.0).a
        array([0.6, 0.8])
    """
    if not isinstance(cls, type):
        msg = f"`cls` must be a class; got an instance of {type(cls).__name__}."
        raise TypeError(msg)
    for name, function in (("flatten", flatten), ("unflatten", unflatten)):
        if not callable(function):
            msg = f"`{name}` must be callable; got {type(function).__name__}."
            raise TypeError(msg)
    _containers[cls] = (flatten, unflatten)
    registry.forget_types()


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
        ValueError: If it is nested too deeply.
    """
    leaves: list[Any] = []
    try:
        if listed and isinstance(tree, (list, tuple)):
            return leaves, _container(tree, leaves)
        return leaves, _walk(tree, leaves, set())
    except NotATreeError as error:
        found, path = error.found, name + error.path
        said = misplaced.among([found, *error.beside])
        if said is not None:
            msg = f"`{name}` must hold gradients; got {said.found} at {path}. {said.instead}"
            raise TypeError(msg) from None
        if hasattr(found, "dtype") and hasattr(found, "shape") and not isinstance(found, type):
            owner = registry.owner_of(type(found))
            reason = None if owner is None else owner.refuse(found)
            if reason is not None:
                msg = (
                    f"`{name}` must hold dense arrays; got one that {reason} at {path}. Convert it "
                    f"first."
                )
                raise TypeError(msg) from None
            msg = (
                f"`{name}` must hold arrays of a library that agclip knows; got "
                f"{type(found).__module__}.{type(found).__qualname__} at {path}. A library that "
                f"follows the Python Array API standard needs no more; for another one see "
                f"agclip.register_backend."
            )
        else:
            msg = (
                f"`{name}` must be an array, a list of numbers, or a list, tuple, dict or "
                f"registered container of them; got {describe(found)} at {path}. "
                f"{advice.way_in(found)}"
            )
        raise TypeError(msg) from None
    except RecursionError:
        advice.refuse_depth(name)


def materialised(tree: T) -> T:
    """Return a tree whose top can be walked again: a generator of leaves as the list of them."""
    if type(tree) is list or type(tree) is dict:  # whether it is an iterator takes longer to tell
        return tree
    return list(tree) if isinstance(tree, Iterator) else tree  # type: ignore[return-value]


class NotATreeError(Exception):
    def __init__(self, found: Any) -> None:
        self.found = found
        self.path = ""
        self.beside = list(found.values()) if isinstance(found, Mapping) else []
        """What else may say what is meant: its neighbours, and what it holds."""


def _walk(x: Any, leaves: list[Any], found: set[type]) -> Structure:
    if x is None:
        return None
    if type(x) in registry.BY_TYPE:
        leaves.append(x)
        return LEAF
    if is_literal(x):
        leaves.append(Literal(x))
        return LEAF
    if isinstance(x, (dict, list, tuple)) or type(x) in _containers:
        return _container(x, leaves)
    if registry.resolve(x) is not None:
        found.add(type(x))  # Compiled code enters no class in the table, and asks but once so.
        leaves.append(x)
        return LEAF
    try:
        return _container(x, leaves)
    except NotATreeError as error:
        if error.found is not x or not foreign.exchanges(x):
            raise
    leaves.append(Literal(x, exchanged=True))
    return LEAF


def _container(x: Any, leaves: list[Any]) -> Node:
    cls = type(x)
    if (cls is dict or cls is list) and cls not in _containers:  # what most trees are made of
        children = list(x if cls is list else x.values())
        types = set(map(type, children))
        if types.issubset(registry.BY_TYPE):
            leaves += children
            places, keys = [LEAF] * len(children), None if cls is list else list(x)
            return Node(cls, keys, places, ITEM, True, False, types)
    node = open_container(x)
    # By name, since Dynamo cannot compare the keys of a dict with a set (PyTorch 2.11).
    if set(map(type, node.children)).issubset(registry.BY_TYPE):
        leaves += node.children
        places = [LEAF] * len(node.children)
        return Node(node.unflatten, node.keys, places, node.key_format, True, node.holds)
    structures: list[Structure] = []
    found: set[type] = set()
    for position, child in enumerate(node.children):
        if found and type(child) in found:
            leaves.append(child)
            structures.append(LEAF)
            continue
        try:
            if type(child) is dict:
                structures.append(_container(child, leaves))
            else:
                structures.append(_walk(child, leaves, found))
        except NotATreeError as error:
            if not error.path:
                error.beside += node.children
            error.path = node.key(position) + error.path
            raise
    holds = node.holds
    for one in structures:
        holds = holds or (type(one) is Node and one.holds)
    return Node(node.unflatten, node.keys, structures, node.key_format, False, holds)


def open_container(x: Any) -> Node:
    """Return a container with its children as they are."""
    cls = type(x)
    if cls in _containers:
        return _open_registered(x)
    if isinstance(x, (dict, LazyDict)):
        # Some libraries' modules are dicts of their parameters.
        if cls.__module__ not in _PLAIN and misplaced.among([x]) is not None:
            raise NotATreeError(x)
        plain = cls is dict or cls is LazyDict
        build: Unflatten = dict if plain else _dict_builder(cast("dict[Any, Any]", x))
        return Node(build, list(x), list(x.values()), holds=not plain)
    if isinstance(x, list):
        plain = cls is list
        return Node(list if plain else _list_builder(x), None, list(x), holds=not plain)
    if isinstance(x, tuple):
        fields = getattr(x, "_fields", None)
        if fields is None:
            return Node(cls if cls is tuple else _tuple_builder(cls), None, list(x))
        # A subclass may ask for other arguments than its fields.
        made: Unflatten = getattr(cls, "_make", None) or (lambda children: cls(*children))
        return Node(made, list(fields), list(x), ".{}")
    if isinstance(x, (Iterator, ValuesView)):
        return Node(list, None, list(x))
    for flattener in entry_points.flatteners():
        opened = flattener(x)
        if opened is not None:
            children, keys, build = opened
            return Node(build, keys, children, "{}", holds=True)
    raise NotATreeError(x)


def _open_registered(x: Any) -> Node:
    take_apart, put_together = _containers[type(x)]
    children, aux, *keys = take_apart(x)

    def build(new: list[Any]) -> Any:
        return put_together(aux, new)

    return Node(build, list(keys[0]) if keys else None, list(children), holds=True)


def _dict_builder(original: dict[Any, Any]) -> Unflatten:
    keys = list(original)

    def build(children: list[Any]) -> dict[Any, Any]:
        # A copy keeps what a subclass carries besides its items (defaultdict, OrderedDict, …).
        new = copy.copy(original)
        for key, child in zip(keys, children, strict=True):
            new[key] = child
        return new

    return build


def _tuple_builder(cls: Callable[[list[Any]], Any]) -> Unflatten:
    def build(children: list[Any]) -> Any:
        try:
            return cls(children)
        except TypeError as error:
            name = getattr(cls, "__qualname__", repr(cls))
            msg = (
                f"a {name} must be made of its items, as a tuple is, to hold what comes out; got "
                f"{type(error).__name__}: {error}. Say how it is made: agclip.register_container("
                f"{name}, lambda x: (tuple(x), None), lambda _, new: {name}(*new))."
            )
            raise TypeError(msg) from None

    return build


def _list_builder(original: list[Any]) -> Unflatten:
    def build(children: list[Any]) -> list[Any]:
        new = copy.copy(original)
        new[:] = children
        return new

    return build
