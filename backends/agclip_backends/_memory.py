"""Where arrays lie in memory, and whether two share some: of any library that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_PATIENCE: Any = 1_000_000  # NumPy's stubs before 2.5 know no limit but "none"
"""Steps of the search for a common byte, after which one is taken to be there."""


class Memory(NamedTuple):
    """The place of an array: that of its first element, and the bytes to the next on each axis.

    It tells two arrays apart only where addresses do: on one host, or on devices under one driver.

    Example:
        >>> x = np.ones((2, 3))
        >>> Memory(x.ctypes.data, x.strides, x.itemsize).strides
        (24, 8)
    """

    address: int
    """That of the first element."""
    strides: Sequence[int]
    """The bytes to the next element on each axis."""
    itemsize: int
    """The bytes of an element."""


class Elements(NamedTuple):
    """The places of all elements, whatever their order: equal where two arrays hold the same."""

    low: int
    high: int
    """Where the last element ends."""
    itemsize: int
    axes: tuple[tuple[int, int], ...]
    """Pairs of a stride and a length, as few as there can be, by increasing stride."""


def of(leaves: Sequence[Any]) -> Sequence[Memory | None] | None:
    """Return where arrays lie that show it, and None for another.

    They do by `__array_interface__`, by those that CUDA and SYCL have in its place, or by DLPack on
    the host.
    """
    return [_shown(x) for x in leaves]


def _shown(x: Any) -> Memory | None:
    try:
        shared = getattr(x, "__sycl_usm_array_interface__", None)
        if shared is not None:
            return _shared(shared)
        shown = getattr(x, "__array_interface__", None) or getattr(
            x, "__cuda_array_interface__", None
        )
        shown = np.from_dlpack(x).__array_interface__ if shown is None else shown
        itemsize = int(shown["typestr"][2:])
        strides = shown.get("strides") or _contiguous(shown["shape"], itemsize)
        return Memory(shown["data"][0], strides, itemsize)
    except Exception:  # noqa: BLE001 - every library refuses in its own way
        return None


def _shared(shown: Any) -> Memory:
    """Return the same of memory that is shared with devices: offset and strides are elements."""
    itemsize = int(shown["typestr"][2:])
    strides = shown.get("strides")
    if strides is None:
        strides = [stride // itemsize for stride in _contiguous(shown["shape"], itemsize)]
    address = shown["data"][0] + shown.get("offset", 0) * itemsize
    return Memory(address, [stride * itemsize for stride in strides], itemsize)


def _contiguous(shape: Sequence[int], itemsize: int) -> list[int]:
    strides = [itemsize]
    for length in reversed(shape[1:]):
        strides.append(strides[-1] * length)
    return strides[::-1][: len(shape)]


def apart(lows: Sequence[int], highs: Sequence[int]) -> bool:
    """Tell whether pieces of memory, from there to there, are clear of each other.

    Where two are not, one begins before as many have ended as began before it.
    """
    begin, end = np.array(lows, np.int64), np.array(highs, np.int64)
    begin.sort()
    end.sort()
    return bool((end[:-1] <= begin[1:]).all())


def extent(memory: Memory, shape: Sequence[int]) -> tuple[int, int]:
    """Return from where to where an array reaches that is not empty."""
    low, high = memory.address, memory.address + memory.itemsize
    for stride, length in zip(memory.strides, shape, strict=True):
        if stride < 0:
            low += stride * (length - 1)
        else:
            high += stride * (length - 1)
    return low, high


def elements(memory: Memory, shape: Sequence[int]) -> Elements:
    """Return the places of all elements of an array that is not empty."""
    axes: list[tuple[int, int]] = []
    for stride, length in sorted(zip(map(abs, memory.strides), shape, strict=True)):
        if length > 1 and axes and stride == axes[-1][0] * axes[-1][1]:
            axes[-1] = (axes[-1][0], axes[-1][1] * length)
        elif length > 1:
            axes.append((stride, length))
    return Elements(*extent(memory, shape), memory.itemsize, tuple(axes))


class _Shown:
    """Memory that NumPy is asked about, and never looks into."""

    def __init__(self, found: Elements) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (found.low, True),
            "typestr": f"|V{found.itemsize}",
            "shape": tuple(length for _, length in found.axes),
            "strides": tuple(stride for stride, _ in found.axes),
        }


def overlap(one: Elements, other: Elements) -> bool:
    """Tell whether two arrays have a byte in common."""
    try:
        return np.shares_memory(
            np.asarray(_Shown(one)), np.asarray(_Shown(other)), max_work=_PATIENCE
        )
    except np.exceptions.TooHardError:
        return True
