"""Containers that JAX and optree know: opened one level at a time, through their public functions.

Called only when the library is imported already, for an object that is neither an array nor a list,
tuple or dict. None says that the library does not know it either.

And the other way round: these libraries and PyTorch are told of a class that reads as a dict. They
look at the very class of a container, and would take it for a leaf. What is put together again is a
dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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


def _sorted(node: Mapping[str, Any]) -> tuple[list[Any], tuple[str, ...]]:
    keys = tuple(sorted(node))
    return [node[key] for key in keys], keys


def _dict(keys: Iterable[str], values: Iterable[Any]) -> dict[str, Any]:
    return dict(zip(keys, values, strict=True))


def dict_of_jax(cls: type[Mapping[str, Any]]) -> None:
    """Have JAX open instances as it does dicts, in the order of their keys."""
    from jax import tree_util

    def with_keys(node: Mapping[str, Any]) -> Any:
        values, keys = _sorted(node)
        return list(zip(map(tree_util.DictKey, keys), values, strict=True)), keys

    tree_util.register_pytree_with_keys(cls, with_keys, _dict, _sorted)


def dict_of_optree(cls: type[Mapping[str, Any]]) -> None:
    """Have optree open instances as it does dicts, in the order of their keys."""
    import optree

    library: Any = optree  # whose types speak of collections, and of no global namespace

    def with_entries(node: Mapping[str, Any]) -> Any:
        values, keys = _sorted(node)
        return values, keys, keys

    space = library.registry.__GLOBAL_NAMESPACE
    library.register_pytree_node(
        cls, with_entries, _dict, path_entry_type=optree.MappingEntry, namespace=space
    )


def dict_of_torch(cls: type[Mapping[str, Any]]) -> None:
    """Have PyTorch open instances as it does dicts, in the order in which they are.

    There is no public module of pytrees (torch 2.13).
    """
    from torch.utils import _pytree

    def keyed(node: Mapping[str, Any]) -> Any:
        return [(_pytree.MappingKey(key), value) for key, value in node.items()], list(node)

    _pytree.register_pytree_node(
        cls,
        lambda node: (list(node.values()), list(node)),
        lambda values, keys: _dict(keys, values),
        flatten_with_keys_fn=keyed,
    )
