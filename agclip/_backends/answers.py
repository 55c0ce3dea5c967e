"""The default answers to what a backend is asked about arrays, devices and the library itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import array_api_compat

from agclip._backends import shapes
from agclip._backends.kernels import write
from agclip._typing import Array, Device, Namespace
from agclip_backends import _memory

R = TypeVar("R")


def keeps_bits(_: Array) -> bool:
    """Return the cautious answer: a product with one may flush a subnormal number to zero."""
    return False


def rows(_: Array) -> int:
    """Return 1: the library's own reduction serves."""
    return 1


def no_axes(_: Namespace, values: Sequence[Array], axes: tuple[str, ...], op: str) -> Any:
    """Refuse to reduce over axes: most libraries have no meshes."""
    msg = (
        f"`comm` must be a communicator where the library of the leaves has no axes of meshes; got "
        f"{axes[0]!r}."
    )
    raise TypeError(msg)


def replays() -> bool:
    """Return False: no code is being compiled."""
    return False


def anywhere(_: Any, function: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """Return `function(*arguments, **options)`: most libraries go by the arrays of a call."""
    return function(*arguments, **options)


def refuse(_: Any) -> str | None:
    """Return why an object of this library is not a dense array; None if it is one."""
    return None


def unwritable(x: Array) -> str | None:
    """Return why an array cannot be overwritten; None if it can."""
    if not array_api_compat.is_writeable_array(x):
        return "is immutable"
    whole: Any = x
    try:
        # Assigning to an empty slice raises the same read-only error and changes nothing.
        nothing = whole if whole.ndim == 0 else whole[:0, ...]
        write(nothing, nothing)
    except (TypeError, ValueError) as error:
        return f"refuses to be written ({error})"
    places = _memory.of([x])
    place = None if places is None else places[0]
    # Some libraries let a broadcast array be written (dpnp 0.20): once for each element.
    if place is not None and shapes.overlaps_itself(whole.shape, place.strides, place.itemsize):
        return "holds several elements in the same memory"
    return None


def usable() -> str | None:
    """Return why the library cannot be used here; None if it can."""
    return None


def named_device(xp: Namespace, name: str) -> Device:
    """Return the device that prints a name, or prints that it is made from it; None if none does.

    So "cpu" is found where devices are strings, and "d1" where one prints Device('d1').
    """
    for found in xp.__array_namespace_info__().devices():
        if str(found) == name or repr(name) in str(found):
            return found
    return None


def export(x: Array) -> Array:
    """Return a copy of an array: of the memory of an unknown library nothing is known.

    PyTorch (2.13) ends the process when it is handed a stride below 0.
    """
    return array_api_compat.array_namespace(x).asarray(x, copy=True)
