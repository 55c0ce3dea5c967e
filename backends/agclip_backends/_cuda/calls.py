"""Calls of the CUDA kernels: which leaves they take, and what they are told about them.

Every call uploads one table, of the leaves' addresses and sizes and of the scalars that are known
on the host; scalars on the device are read there. Nothing waits for the device.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from agclip import adapters
from agclip.adapters import Array, Factor, Namespace, Scalar, kind_of
from agclip_backends._cuda.source import CHUNK, KINDS

_WORDS = 5
"""64-bit words of a leaf in the table: `struct Leaf` of the source."""


class Driver(Protocol):
    """What a library has to offer for the kernels to run on its arrays, all on one device."""

    def address(self, x: Array) -> int:
        """Return the address of an array's first element."""
        ...

    def dense(self, x: Array) -> bool:
        """Tell whether an array's elements fill a stretch of memory, in whatever order."""
        ...

    def upload(self, words: NDArray[np.int64]) -> Array:
        """Return a copy on the device, without waiting for it."""
        ...

    def doubles(self, count: int) -> Array:
        """Return a new array of float64 of one axis, its elements unset."""
        ...

    def launch(self, name: str, blocks: int, *words: int) -> None:
        """Run a kernel in that many blocks; its arguments are addresses and 64-bit integers."""
        ...


class _Table(NamedTuple):
    memory: list[Array]
    """What the addresses point into: it must outlive the launch."""
    chunks: int
    words: tuple[int, ...]
    """The kernels' first arguments: the address of the leaves, and their number."""
    scalars: tuple[int, ...]
    """The address of each scalar; 0 for None."""


def fits(driver: Driver, leaf: Array) -> bool:
    """Tell whether the kernels take a leaf."""
    return kind_of(leaf.dtype).name in KINDS and driver.dense(leaf)


def is_scalar(x: Scalar | None) -> bool:
    """Tell whether the kernels take a number: None, a float or a 0-d array."""
    return x is None or isinstance(x, float) or x.ndim == 0


def sum_squares(driver: Driver, xp: Namespace, leaves: Sequence[Array], scale: Scalar) -> Array:
    """Return Σ (scale·|x|)² of each leaf, formed in float64.

    Args:
        driver: The library's driver, for the leaves' device.
        xp: The namespace.
        leaves: Leaves that fit.
        scale: A float, or a 0-d array on the leaves' device.

    Returns:
        An array of float64 with an element a leaf. Its bits depend on the leaf's elements in the
        order in which they lie in memory, and on nothing else.
    """
    scalar = None if adapters.is_one(scale) else scale
    table = _table(driver, xp, leaves, leaves, [scalar])
    partial, sums = driver.doubles(table.chunks), driver.doubles(len(leaves))
    partial_address = driver.address(partial)
    if table.chunks:
        driver.launch(
            "agclip_sum_chunks", table.chunks, *table.words, *table.scalars, partial_address
        )
    if leaves:
        first, _ = table.words
        driver.launch(
            "agclip_sum_leaves", len(leaves), first, partial_address, driver.address(sums)
        )
    return sums


def scale(
    driver: Driver,
    xp: Namespace,
    sources: Sequence[Array],
    targets: Sequence[Array],
    factor: Factor,
) -> None:
    """Write each source times the factor to its target, which may be the source itself.

    In place nothing is written, nor read, where the factor is one: the device looks.

    Args:
        driver: The library's driver, for the leaves' device.
        xp: The namespace.
        sources: Leaves that fit.
        targets: Arrays with the dtypes, shapes and strides of the sources.
        factor: Floats, or 0-d arrays on the leaves' device.
    """
    if _overlap(driver, targets):
        for source, target in zip(sources, targets, strict=True):
            _launch_scale(driver, xp, [source], [target], factor)
    else:
        _launch_scale(driver, xp, sources, targets, factor)


def _overlap(driver: Driver, arrays: Sequence[Array]) -> bool:
    """Tell whether two arrays share memory: blocks of one launch must not, they run in no order."""
    ends = sorted((driver.address(x), driver.address(x) + x.nbytes) for x in arrays if x.nbytes)
    return any(end > begin for (_, end), (begin, _) in itertools.pairwise(ends))


def _launch_scale(
    driver: Driver,
    xp: Namespace,
    sources: Sequence[Array],
    targets: Sequence[Array],
    factor: Factor,
) -> None:
    table = _table(driver, xp, sources, targets, [*factor.narrow, *factor.wide])
    if table.chunks:
        driver.launch("agclip_scale", table.chunks, *table.words, *table.scalars)


def _table(
    driver: Driver,
    xp: Namespace,
    sources: Sequence[Array],
    targets: Sequence[Array],
    scalars: Sequence[Scalar | None],
) -> _Table:
    words: list[int] = []
    chunks = 0
    for source, target in zip(sources, targets, strict=True):
        kind = kind_of(source.dtype)
        count = math.prod(source.shape) * (2 if kind.family == "complex" else 1)
        words += driver.address(source), driver.address(target), count, chunks, KINDS[kind.name]
        chunks += -(-count // CHUNK)
    floats = [x for x in scalars if isinstance(x, float)]
    packed = np.empty(len(words) + len(floats), np.int64)
    packed[: len(words)] = words
    packed[len(words) :].view(np.float64)[:] = floats
    memory = driver.upload(packed)
    first = driver.address(memory)
    free = iter(range(first + 8 * len(words), first + 8 * len(packed), 8))
    addresses, kept = [], [memory]
    for x in scalars:
        if x is None or isinstance(x, float):
            addresses.append(0 if x is None else next(free))
        else:
            kept.append(adapters.cast(xp, x, xp.float64))
            addresses.append(driver.address(kept[-1]))
    return _Table(kept, chunks, (first, len(words) // _WORDS), tuple(addresses))
