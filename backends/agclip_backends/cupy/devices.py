"""CuPy's devices: it computes on the current one, on the stream that is current there.

Whatever it is given while another is current lands on the wrong one, in no order with what came
before; so calls are made where their arrays are.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import cupy


@contextlib.contextmanager
def on(device: Any) -> Iterator[None]:
    """Work on a device: on its current stream, after all that the caller's has been given.

    And what the caller's stream is given next comes after this. Else neither would know when the
    other's arrays are ready, nor when memory of theirs is free again.
    """
    if device == cupy.cuda.Device():
        yield
        return
    outer = cupy.cuda.get_current_stream()
    event = _recorded(outer)
    with device:
        inner = cupy.cuda.get_current_stream()
        inner.wait_event(event)
        try:
            yield
        finally:
            event = _recorded(inner)
    outer.wait_event(event)


def _recorded(stream: Any) -> Any:
    """Return an event after all that a stream of the current device has been given."""
    return stream.record(cupy.cuda.Event(disable_timing=True))


def at(x: Any, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function where an array is; a number is everywhere."""
    if not isinstance(x, cupy.ndarray):
        return function(*arguments, **options)
    with on(x.device):
        return function(*arguments, **options)


def to_device(x: Any, device: Any, /) -> Any:
    """Return an array on a device, itself if it is there: copied when it is ready."""
    if x.device == device:
        return x
    with on(x.device):
        # CuPy (14.2) copies nothing else between devices.
        x = x if x.flags.c_contiguous else x.copy()
    with on(device):
        return cupy.array(x)


@functools.cache
def following(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of CuPy's that works where its first array is."""

    @functools.wraps(function)
    def there(*arguments: Any, **options: Any) -> Any:
        return at(first(arguments), function, *arguments, **options)

    return there


def first(tree: Any) -> Any:
    """Return the first array of a tree, None if there is none."""
    if isinstance(tree, cupy.ndarray):
        return tree
    children = tree.values() if isinstance(tree, dict) else tree
    if isinstance(tree, (dict, list, tuple)):
        for child in children:
            if (found := first(child)) is not None:
                return found
    return None


def run(program: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Any:
    """Call a program on the device of its first array."""
    return at(first(arrays), program, *static, *arrays)
