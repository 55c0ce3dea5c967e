"""MLX as it is where its default device is a GPU, and as it is inside of a trace."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock


@contextlib.contextmanager
def without_float64() -> Iterator[None]:
    """Have MLX say that operations run on a GPU, unless a stream of the CPU is entered.

    They run on the CPU: what is tested is which ones are asked for.
    """
    mx = importlib.import_module("mlx.core")
    current = [mx.Device(mx.gpu, 0)]

    @contextlib.contextmanager
    def stream(device: Any) -> Iterator[None]:
        current.append(mx.Device(device, 0))
        yield
        current.pop()

    with (
        mock.patch.object(mx, "default_device", side_effect=lambda: current[-1]),
        mock.patch.object(mx, "stream", stream),
    ):
        yield


def vmapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is called through `mx.vmap`, with an axis of length one.

    What it is given is traced: of what it writes there the caller sees what it hands out.
    """
    mx = importlib.import_module("mlx.core")

    def called(*trees: Any) -> Any:
        structure: list[Any] = []

        def inner(arrays: list[Any]) -> list[Any]:
            found, again = _taken_apart(function(*_put_in(trees, iter(arrays))))
            structure[:] = [again]
            return [*arrays, *found]

        arrays, _ = _taken_apart(trees)
        outer = [x[0] for x in mx.vmap(inner)([x[None] for x in arrays])]
        for array, written in zip(arrays, outer, strict=False):
            array[...] = written
        return structure[0](iter(outer[len(arrays) :]))

    return called


def _taken_apart(tree: Any) -> tuple[list[Any], Callable[[Iterator[Any]], Any]]:
    """Return the arrays of a tree, and a function that puts others in their places."""
    mx = importlib.import_module("mlx.core")
    arrays: list[Any] = []

    def walk(node: Any) -> None:
        if isinstance(node, mx.array):
            arrays.append(node)
        elif isinstance(node, dict):
            for child in node.values():
                walk(child)
        elif isinstance(node, (list, tuple)):
            for child in node:
                walk(child)

    walk(tree)
    return arrays, lambda others: _put_in(tree, others)


def _put_in(tree: Any, arrays: Iterator[Any]) -> Any:
    mx = importlib.import_module("mlx.core")
    if isinstance(tree, mx.array):
        return next(arrays)
    if isinstance(tree, dict):
        return type(tree)((key, _put_in(child, arrays)) for key, child in tree.items())
    if isinstance(tree, (list, tuple)):
        children = [_put_in(child, arrays) for child in tree]
        return type(tree)(*children) if hasattr(tree, "_fields") else type(tree)(children)
    return tree
