"""Leaves in host memory as a table of addresses, and the compiled kernels on it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from agclip.adapters import Backend, Factor, Grid, Kind, LeafBatch, settings
from agclip_backends._host import pages
from agclip_backends._host.team import Team, check, job_of, parts_of, share
from agclip_backends._host.threads import Shares, work_off

_SHARED = 1 << 20
"""Elements from which on a call is worth the hand-over to other threads, some 50 microseconds."""
_HALF = 1 << 11
"""Elements of a half type from which on the kernel is faster than conversions by the library."""

CODES = {"float16": 0, "bfloat16": 1, "float32": 2, "float64": 3, "complex64": 2, "complex128": 3}
"""The formats of the elements, or of their parts, as the kernels number them."""


_SIZES = np.array([2, 2, 4, 8])
"""Bytes of an element in each format."""

_PARTS = {"complex": 2}


def counts(sizes: list[int], column: Sequence[Kind]) -> list[int]:
    """Return the number of real elements of each leaf, from its size and its kind."""
    first = column[0] if column else None
    if column.count(first) == len(column):
        return sizes if first is None or first.family != "complex" else [2 * n for n in sizes]
    return [n * _PARTS.get(k.family, 1) for n, k in zip(sizes, column, strict=True)]


class Library(NamedTuple):
    """What has to be asked of the library that owns the leaves."""

    new: Callable[[Any], Any]
    """`(leaf)` → new memory of the same layout."""
    addresses: Callable[[Sequence[Any], Any], Any]
    """`(leaves, kernels)` → where they lie, as int64."""
    threads: Callable[[], int]
    """`()` → how many threads it would use."""
    written: Callable[[Sequence[Any]], None]
    """`(leaves)` → None; it is told that they are going to be overwritten."""
    as_stored: Callable[[Sequence[Any]], bool] = lambda _: True
    """`(leaves)` → whether memory has their signs; their magnitudes it has."""
    team: Callable[[], Team | None] = lambda: None
    """`()` → its own threads, if they can be had."""


class Leaves(LeafBatch):
    """Leaves that lie in host memory without gaps, and the table that says where.

    They are held for as long as the table lives.
    """

    __slots__ = ("blocks", "kernels", "library", "table")

    def __init__(
        self,
        leaves: Sequence[Any],
        column: Sequence[Kind],
        table: Any,
        kernels: Any,
        library: Library,
        *,
        kinds: frozenset[Kind] | None = None,
        distinct: bool,
    ) -> None:
        counts = table[kernels.COUNT].tolist()
        elements = counts.pop()
        LeafBatch.__init__(
            self, leaves, column, counts, kinds=kinds, elements=elements, distinct=distinct
        )
        self.blocks: int = int(table[kernels.FIRST, -1])
        self.kernels = kernels
        self.library = library
        self.table = table

    def per_block(self, kernel: Callable[..., None], *arguments: Any) -> Any:
        """Return the number that a kernel writes for each block."""
        out = np.empty(self.blocks)
        self.work(kernel, *arguments, out)
        return out

    def per_leaf(self, blocks: Any, combine: Callable[..., None]) -> list[float]:
        """Return for each leaf what a kernel makes of its blocks."""
        out = np.empty(len(self))
        combine(self.table, blocks, out)
        values: list[float] = out.tolist()
        return values

    def work(self, kernel: Callable[..., None], *arguments: Any, owned: Any = None) -> None:
        """Call a kernel for all blocks: in this thread, or in several if there is much to do.

        Args:
            kernel: The kernel.
            *arguments: What it takes besides the table and the blocks.
            owned: What the arguments hold the addresses of.
        """
        if self.elements < _SHARED:
            kernel(self.table, 0, self.blocks, *arguments)
            return
        threads = _threads(self.library)
        if kernel not in self.kernels.SHARED:

            def some(start: int, stop: int) -> None:
                kernel(self.table, start, stop, *arguments)

            size = share(self.blocks, threads)
            work_off(Shares(some, self.blocks, size, owned), threads)
            return
        job = job_of(self.kernels, self.table, kernel, threads, arguments)
        team = self.library.team() if threads > 1 and settings().threads is None else None
        if team is not None and team.free() and team.prompt():
            team.work_off(self.kernels, job, threads)
        else:
            work_off(parts_of(self.kernels, job, threads, (self, arguments), owned), threads)
            check(self.kernels, job)


def _with_table(leaves: LeafBatch) -> LeafBatch:
    """Return leaves that were chosen from some with a table with a table of their own."""
    assert leaves.origin is not None, "they were chosen"
    whole, positions = leaves.origin
    if not isinstance(whole, Leaves):
        return leaves
    if len(whole) == len(leaves):  # made for another kernel
        return whole
    kernels = whole.kernels
    table = np.empty((4, len(leaves) + 1), np.int64)
    table[: kernels.FIRST, :-1] = whole.table[: kernels.FIRST, positions]
    kernels.complete(table, False)
    made = Leaves(
        leaves, leaves.column, table, kernels, whole.library,
        kinds=leaves.kinds, distinct=leaves.distinct,
    )  # fmt: skip
    leaves.origin = made, range(len(made))
    return made


def _threads(library: Library) -> int:
    asked = settings().threads
    return asked if isinstance(asked, int) else library.threads()


def accelerated(plain: Backend) -> Backend:
    """Return a backend that hands `Leaves` to the compiled kernels, and others to its own."""

    def either(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        other = getattr(plain, name)

        multiplies = name in ("scale", "scale_")

        def kernel(xp: Any, leaves: Sequence[Any], *arguments: Any) -> Any:
            if (
                type(leaves) is LeafBatch
                and leaves.origin is not None
                and (not multiplies or leaves.elements >= _least(leaves.kinds))
            ):
                leaves = _with_table(leaves)
            found = own(leaves, *arguments) if isinstance(leaves, Leaves) else NotImplemented
            return other(xp, leaves, *arguments) if found is NotImplemented else found

        return kernel

    kernels: dict[str, Any] = {name: either(name, own) for name, own in _KERNELS.items()}
    return replace(plain, **kernels)


def _sum_squares(leaves: Leaves, _: Any, scale: float) -> list[float]:
    blocks = leaves.per_block(leaves.kernels.sum_squares, scale)
    return leaves.per_leaf(blocks, leaves.kernels.totals)


def _abs_max(leaves: Leaves, _: Any) -> list[float]:
    return leaves.per_leaf(leaves.per_block(leaves.kernels.peaks), leaves.kernels.maxima)


def _power_sums(leaves: Leaves, _: Any, p: float, scale: float, unit: float) -> Any:
    if p != 1 or scale != 1 or unit != 1 or any(kind.family != "real" for kind in leaves.kinds):
        return NotImplemented
    blocks = leaves.per_block(leaves.kernels.sum_magnitudes)
    return leaves.per_leaf(blocks, leaves.kernels.totals)


def _exact_sum(leaves: Leaves, _: Any, grid: Grid) -> int:
    below = (32, 64, 96)
    anchors = np.array([grid.unit * 1.5 * 2.0 ** (52 - b) for b in below])
    parts = np.empty((leaves.blocks, 3), np.int64)
    leaves.work(leaves.kernels.exact_parts, grid.scale, anchors, grid.order == 2, parts)
    # A block's sum has 47 bits; in two halves 2^39 blocks can be added in 64.
    high, low = (parts >> 24).sum(axis=0), (parts & (2**24 - 1)).sum(axis=0)
    sums = [(int(a) << 24) + int(b) for a, b in zip(high, low, strict=True)]
    kept = below[: grid.bits // 32]
    return sum(part << (grid.bits - b) for part, b in zip(sums, kept, strict=False))


def _clip(leaves: Leaves, lows: Sequence[float], highs: Sequence[float], inplace: bool) -> Any:
    if not leaves.library.as_stored(leaves):
        return NotImplemented
    bounds = np.array(lows, np.float64), np.array(highs, np.float64)
    return _write(leaves, leaves.kernels.clip, *bounds, inplace=inplace)


def _scale(leaves: Leaves, factor: Factor) -> Any:
    if not leaves.library.as_stored(leaves):
        return NotImplemented
    return _write(leaves, leaves.kernels.scale, _parts(factor), inplace=False)


def _scale_(leaves: Leaves, factor: Factor) -> None:
    _write(leaves, leaves.kernels.scale, _parts(factor), inplace=True)


_KERNELS: dict[str, Callable[..., Any]] = {
    "sum_squares": _sum_squares,
    "abs_max": _abs_max,
    "power_sums": _power_sums,
    "exact_sum": _exact_sum,
    "clip": _clip,
    "scale": _scale,
    "scale_": _scale_,
}


@functools.cache
def _least(kinds: frozenset[Kind]) -> int:
    """Return from how many elements on a multiplication is worth a new table, some 8 microseconds.

    One thread of a library multiplies float32 and float64 as fast as the kernel; half types, which
    it converts to float32 and back, it does not from some thousand elements on (NumPy 2.4).
    """
    return _HALF if any(kind.half for kind in kinds) else _SHARED


def _parts(factor: Factor) -> Any:
    return np.array([1.0 if part is None else part for part in (*factor.narrow, *factor.wide)])


def _write(
    leaves: Leaves, kernel: Callable[..., None], *arguments: Any, inplace: bool
) -> Sequence[Any]:
    library, own = leaves.library, leaves.table[leaves.kernels.ADDRESS, :-1]
    if inplace:
        # Told before: whatever ends the work early, some of it has been done.
        library.written(leaves)
        leaves.work(kernel, own, *arguments)
        return leaves
    new = [library.new(leaf) for leaf in leaves]
    addresses = library.addresses(new, leaves.kernels)
    if leaves.elements >= _SHARED:
        pages.ask_for_large_ones(_large(leaves, addresses))
    leaves.work(kernel, addresses, *arguments, owned=new)
    return new


def _large(leaves: Leaves, addresses: Any) -> list[tuple[int, int]]:
    k = leaves.kernels
    sizes = leaves.table[k.COUNT, :-1] * _SIZES[leaves.table[k.CODE, :-1]]
    chosen = sizes >= pages.LEAST
    return list(zip(addresses[chosen].tolist(), sizes[chosen].tolist(), strict=True))
