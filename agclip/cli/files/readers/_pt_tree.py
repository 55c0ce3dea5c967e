"""The tree of a `.pt` file: its tensors by name, and the same tree with others in their place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from agclip.cli.files.readers._format import FileError

_DEPTH = 100
"""Levels of containers. A tree that holds itself has no end."""
_NAMES = 1 << 27
"""Characters of all names together, with `_ENTRY` for each tensor.

A few bytes of a file can hold one list many times, and in it another one.
"""
_ENTRY = 1000


def tensors(tree: Any) -> list[tuple[str, Any]]:
    """Find the tensors of a tree: dicts and lists in their order, names joined by dots.

    Raises:
        FileError: If the tree has no end, or more tensors than a file is read for.
    """
    found: list[tuple[str, Any]] = []
    _visit(tree, "", found, set(), _DEPTH)
    return found


def _visit(
    node: Any, name: str, found: list[tuple[str, Any]], barren: set[int], depth: int
) -> None:
    import torch

    if isinstance(node, torch.Tensor):
        found.append((name or "tensor", node))
        _check_names(found)
        return
    if not isinstance(node, (dict, list, tuple)) or id(node) in barren:
        return
    if not depth:
        msg = f"it is nested deeper than {_DEPTH} levels, or holds itself"
        raise FileError(msg)
    before = len(found)
    for key, child in _items(node):
        if isinstance(child, (torch.Tensor, dict, list, tuple)):
            _visit(child, f"{name}.{key}" if name else str(key), found, barren, depth - 1)
    if len(found) == before:
        barren.add(id(node))


def _items(node: Any) -> Iterator[tuple[Any, Any]]:
    return iter(node.items() if isinstance(node, dict) else enumerate(node))


def _check_names(found: list[tuple[str, Any]]) -> None:
    # At powers of two, or the check would take longer than what it forbids.
    count = len(found)
    if count & (count - 1) and count * _ENTRY <= _NAMES and len(found[-1][0]) <= _NAMES:
        return
    if count * _ENTRY + sum(len(name) for name, _ in found) > _NAMES:
        msg = f"it holds {count} tensors or more, whose names are too long to be told"
        raise FileError(msg)


def rebuilt(tree: Any, new: Callable[[Any], Any]) -> Any:
    """Return the tree with other tensors; what holds none of them stays, and what was one is one.

    Args:
        tree: The tree.
        new: What takes the place of a tensor.
    """
    return _rebuilt(tree, new, {})


def _rebuilt(node: Any, new: Callable[[Any], Any], made: dict[int, Any]) -> Any:
    import torch

    if isinstance(node, torch.Tensor):
        return new(node)
    if not isinstance(node, (dict, list, tuple)):
        return node
    if id(node) not in made:
        children = {key: _rebuilt(child, new, made) for key, child in _items(node)}
        same = all(children[key] is child for key, child in _items(node))
        made[id(node)] = node if same else _filled(node, children)
    return made[id(node)]


def _filled(node: Any, children: dict[Any, Any]) -> Any:
    """Return a container of the same class with other children."""
    if isinstance(node, dict):
        # A copy keeps the class and its attributes: a state dict has its `_metadata`.
        filled = copy.copy(node)
        filled.update(children)
        return filled
    values = list(children.values())
    if isinstance(node, list):
        return values
    return type(node)(*values) if hasattr(node, "_fields") else tuple(values)
