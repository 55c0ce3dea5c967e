"""Containers that JAX and optree know: opened one level at a time, through their public functions.

Called only when the library is imported already, for an object that is neither an array nor a list,
tuple or dict. None says that the library does not know it either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Opened = tuple[list[Any], list[str], Callable[[list[Any]], Any]]


def flatten_jax(node: Any) -> Opened | None:
    """Open a node of a JAX pytree: a Flax module's state, an Equinox module, a dataclass."""
    from jax import tree_util

    entries, treedef = tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    if [path for path, _ in entries] == [()]:
        return None
    children = [child for _, child in entries]
    keys = [tree_util.keystr(path) for path, _ in entries]
    return children, keys, lambda new: tree_util.tree_unflatten(treedef, new)


def flatten_optree(node: Any) -> Opened | None:
    """Open a node that is registered with optree in its global namespace."""
    import optree

    try:
        opened = optree.tree_flatten_one_level(node, none_is_leaf=True)
    except ValueError:
        return None
    children, metadata, entries, unflatten = opened
    keys = [f"[{entry!r}]" for entry in entries]
    return list(children), keys, lambda new: unflatten(metadata, new)
