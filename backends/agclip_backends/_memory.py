"""Where arrays lie in memory, and whether two share some: of any library that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_PATIENCE = 1_000_000
"""Steps of the search for a common byte, after which one is taken to be there."""


class Memory(NamedTuple):
    """The place of an array: that of its first entry, and bytes from one to the next on each axis.

    It tells two arrays apart only where addresses do: on one host, or on devices under one driver.
    """

    address: int
    strides: Sequence[int]
    itemsize: int


class Entries(NamedTuple):
    """The places of all entries, whatever their order: equal where two arrays hold the same."""

    low: int
    itemsize: int
    axes: tuple[tuple[int, int], ...]
    """Pairs of a stride and a length, as few as there can be, by increasing stride."""

    def high(self) -> int:
        """Return where the last entry ends."""
        return self.low + self.itemsize + sum(stride * (n - 1) for stride, n in self.axes)


def of(x: Any) -> Memory | None:
    """Return where an array lies, if its library shows it; None if not.

    It does by `__array_interface__`, by `__cuda_array_interface__`, or by DLPack on the host.
    """
    try:
        shown = getattr(x, "__array_interface__", None) or getattr(
            x, "__cuda_array_interface__", None
        )
        shown = np.from_dlpack(x).__array_interface__ if shown is None else shown
        itemsize = int(shown["typestr"][2:])
        strides = shown.get("strides") or _contiguous(shown["shape"], itemsize)
        return Memory(shown["data"][0], strides, itemsize)
    except Exception:  # noqa: BLE001 - every library refuses in its own way
        return None


def _contiguous(shape: Sequence[int], itemsize: int) -> list[int]:
    strides = [itemsize]
    for length in reversed(shape[1:]):
        strides.append(strides[-1] * length)
    return strides[::-1][: len(shape)]


def entries(memory: Memory, shape: Sequence[int]) -> Entries:
    """Return the places of all entries of an array that is not empty."""
    low = memory.address
    axes: list[tuple[int, int]] = []
    for stride, length in sorted(
        (abs(stride), length) for stride, length in zip(memory.strides, shape, strict=True)
    ):
        if length == 1:
            continue
        if axes and stride == axes[-1][0] * axes[-1][1]:
            axes[-1] = (axes[-1][0], axes[-1][1] * length)
        else:
            axes.append((stride, length))
    low += sum(s * (n - 1) for s, n in zip(memory.strides, shape, strict=True) if s < 0)
    return Entries(low, memory.itemsize, tuple(axes))


class _Shown:
    """Memory that NumPy is asked about, and never looks into."""

    def __init__(self, found: Entries) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (found.low, True),
            "typestr": f"|V{found.itemsize}",
            "shape": tuple(length for _, length in found.axes),
            "strides": tuple(stride for stride, _ in found.axes),
        }


def overlap(one: Entries, other: Entries) -> bool:
    """Tell whether two arrays have a byte in common."""
    try:
        # NumPy's stubs (2.4) know no limit but "none".
        return np.shares_memory(
            np.asarray(_Shown(one)),
            np.asarray(_Shown(other)),
            max_work=_PATIENCE,  # type: ignore[arg-type]
        )
    except np.exceptions.TooHardError:
        return True
