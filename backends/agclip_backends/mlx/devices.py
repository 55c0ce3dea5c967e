"""Where MLX computes: every array is everybody's, and float64 is the CPU's alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import mlx.core as mx

R = TypeVar("R")


def on_cpu() -> bool:
    """Tell whether operations run on the CPU, unless one says otherwise."""
    return bool(mx.default_device().type == mx.cpu)


def acc_dtype(_: Any, x: Any) -> Any:
    """Return float64 where it can be computed with; on a GPU that of the array, or float32."""
    return mx.float64 if x.dtype == mx.float64 or on_cpu() else mx.float32


def named(_: Any, name: str) -> Any:
    """Return the device of a name such as "cpu" or "gpu"; None if there is none here."""
    kind = {"cpu": mx.cpu, "gpu": mx.gpu}.get(name)
    return mx.Device(kind, 0) if kind is not None and mx.is_available(kind) else None


def run(program: Callable[..., R], static: tuple[Any, ...], arrays: tuple[Any, ...]) -> R:
    """Call a program: on the CPU, if some of its arrays are of float64."""
    if on_cpu() or not _double(arrays):
        return program(*static, *arrays)
    with mx.stream(mx.cpu):
        return program(*static, *arrays)


def at(x: Any, function: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """Call a function: on the CPU, if an array is of float64."""
    if x.dtype != mx.float64 or on_cpu():
        return function(*arguments, **options)
    with mx.stream(mx.cpu):
        return function(*arguments, **options)


def _double(found: Any) -> bool:
    if isinstance(found, (list, tuple)):
        return any(map(_double, found))
    return isinstance(found, mx.array) and bool(found.dtype == mx.float64)
