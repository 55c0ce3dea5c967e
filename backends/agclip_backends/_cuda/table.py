"""What the fused CUDA kernels are told: of libraries, of a clip, and of the leaves.

The layouts of `struct Leaf` and `struct Args` of the source are here.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np

from agclip.adapters import Details, Terms
from agclip_backends._cuda.described import SIZES, Described, New
from agclip_backends._cuda.fused_source import (
    DIVIDED,
    IN_PLACE,
    INLINE,
    JOINT,
    NARROW,
    SKIP,
    STRICT,
    ZERO,
)
from agclip_backends._cuda.source import CHUNK

LEAF = struct.Struct("=QQqIid")
_ROW = np.dtype("<u8,<u8,<i8,<u4,<i4,<f8")
_ROW.names = ("source", "target", "count", "first", "kind", "weight")
SIZE = 200 + INLINE * LEAF.size
_COUNTS = struct.Struct("=iI")  # leaves, chunks
_VARYING = struct.Struct("=7Q14d")
_FLAGS = struct.Struct("=4i")
_ORDER, _LOW = struct.Struct("=d"), 112
_POLICIES = {"propagate": 0, "error": 0, "zero": ZERO, "skip": SKIP}
_Args: Any = ctypes.c_char * SIZE


class Place(NamedTuple):
    """Where a call runs."""

    device: int
    stream: int
    capturing: bool
    """Whether launches are only written down, to be replayed later."""


class Library(Protocol):
    """What an array library offers: arrays on the device, and the kernels as functions."""

    pools_captures: bool
    """Whether memory that is taken while a graph is captured stays the graph's, whoever lets go."""

    def describe(self, leaves: Sequence[Any]) -> Described | None:
        """Describe leaves; None unless each is dense and of a kind that the kernels know."""
        ...

    def as_stored(self, leaves: Sequence[Any]) -> bool:
        """Tell whether memory has the signs of the elements, no view another one."""
        ...

    def in_order(self, leaves: Sequence[Any]) -> bool:
        """Tell whether elements lie in memory in the order of the axes, the last one fastest."""
        ...

    def place(self, leaves: Sequence[Any]) -> Place | None:
        """Return the first leaf's device and its current stream; None unless it is current."""
        ...

    def together(self, place: Place, leaves: Sequence[Any]) -> bool:
        """Tell whether all leaves lie on the device."""
        ...

    def scalar(self, place: Place, x: Any) -> tuple[int, int] | None:
        """Return address and kind of a 0-d array; None unless it lies on the device."""
        ...

    def doubles(self, place: Place, count: int) -> tuple[Any, int]:
        """Return a new array of float64 of one axis, its elements unset, and its address."""
        ...

    def zeros(self, place: Place, count: int) -> tuple[Any, int]:
        """Return a new array of float64 zeros of one axis, and its address."""
        ...

    def copied(self, memory: Any, begin: int, count: int) -> Any:
        """Return a copy of so many numbers of an array of float64, from one of them on."""
        ...

    def number(self, place: Place, kind: int) -> tuple[Any, int]:
        """Return a new 0-d array of float32 (2) or float64 (3), unset, and its address."""
        ...

    def upload(self, place: Place, data: bytearray) -> tuple[Any, int]:
        """Return a copy on the device and its address.

        Without waiting for it; but while a graph is captured it is no part of that, and stays.
        """
        ...

    def processors(self, place: Place) -> int:
        """Return the number of multiprocessors."""
        ...

    def function(self, place: Place, name: str, kinds: int) -> Any:
        """Return a kernel, compiled for kinds of leaves given as bits."""
        ...

    def launch(
        self, place: Place, function: Any, grid: int, parameters: Any, *, follows: bool
    ) -> None:
        """Run a kernel in blocks of THREADS.

        Args:
            place: Where.
            function: The kernel.
            grid: The number of blocks.
            parameters: An array of the addresses of arguments.
            follows: Whether it may begin before the launch before it has ended, and waits itself.
        """
        ...

    def written(self, leaves: Sequence[Any]) -> None:
        """Take note that leaves have been overwritten."""
        ...

    def details(self, report: Any, kinds: Sequence[int]) -> Details:
        """Return the parts of a report, of which `report.cu` says where they are, as 0-d views."""
        ...

    def takes(self, leaves: Sequence[Any], terms: Terms | None, scalars: Sequence[Any]) -> bool:
        """Tell whether nobody but the device has to know what is done to leaves.

        Args:
            leaves: The leaves.
            terms: Of a clip by norms; None for one by elements.
            scalars: The bound and the loss scale.
        """
        ...

    def on(self, leaves: Sequence[Any]) -> AbstractContextManager[Any]:
        """Return a context in which the first leaf's device is current."""
        ...

    def like(self, leaves: Sequence[Any], described: Described) -> New:
        """Return new arrays with the dtypes, shapes and strides of leaves, their elements unset."""
        ...


class Clipped(NamedTuple):
    """What a clip leaves behind, all on the device."""

    norm: Any
    """The joint norm before clipping, 0-d, float64 if a leaf is, else float32; None for others."""
    record: Any
    """RECORD numbers of float64 a group; the source names them."""
    details: Details | None = None
    """What a caller is shown, if asked for."""


class Table(NamedTuple):
    """Leaves as the kernels know them, and arguments of which the rest is filled in by a call."""

    memory: Any
    template: bytes
    number: int
    chunks: int
    kinds: int
    """Bits of the kinds that there are."""
    inplace: bool
    """Whether leaves are their own targets. One leaf does not tell: empty ones have no address."""

    @property
    def kind(self) -> int:
        """Return the kind of the norm of all leaves: float32 (2) or float64 (3)."""
        return 3 if self.kinds & 8 else 2


class Numbers(NamedTuple):
    """Where a call's numbers are, and where what it finds goes: addresses, 0 for none."""

    partial: int
    sums: int
    counters: int
    record: int
    norm: int
    bound_at: int
    loss_at: int
    bound: float
    loss: float
    bound_kind: int
    loss_kind: int
    divided: bool


def packed(
    described: Described, goals: Described, weights: Sequence[float] | None
) -> tuple[bytearray, int, int]:
    """Return the rows of leaves and their targets, the number of chunks, and the kinds as bits."""
    number = len(described.counts)
    chunks = [-(-count // CHUNK) for count in described.counts]
    first = [0, *itertools.accumulate(chunks)]
    columns = described.addresses, goals.addresses, described.counts, first[:-1], described.kinds
    rows = zip(*columns, weights or (1.0,) * number, strict=True)
    leaves = bytearray().join(itertools.starmap(LEAF.pack, rows))
    return leaves, first[-1], sum(1 << kind for kind in set(described.kinds))


def packed_slices(
    described: Described, goals: Described, slices: Sequence[int]
) -> tuple[bytearray, int, int]:
    """Return the same for leaves of which each is so many slices, one after the other in memory."""
    which = np.repeat(np.arange(len(slices)), slices)
    first = np.cumsum(slices) - slices
    widths = np.array(described.counts) // np.maximum(slices, 1)
    kinds = np.array(described.kinds)
    offsets = (np.arange(which.size) - first[which]) * (widths * SIZES[kinds])[which]
    rows = np.zeros(which.size, _ROW)
    for name, where in (("source", described), ("target", goals)):
        rows[name] = np.array(where.addresses, np.uint64)[which] + offsets.astype(np.uint64)
    rows["count"], rows["kind"], rows["weight"] = widths[which], kinds[which], 1.0
    chunks = -(-rows["count"] // CHUNK)
    rows["first"] = np.cumsum(chunks) - chunks
    return (
        bytearray(rows.tobytes()),
        int(chunks.sum()),
        sum(1 << kind for kind in {*kinds.tolist()}),
    )


def template(leaves: bytearray, chunks: int, address: int) -> bytes:
    """Return arguments with a table: an uploaded one's address, or 0 and the rows themselves."""
    made = bytearray(SIZE)
    _COUNTS.pack_into(made, 176, len(leaves) // LEAF.size, chunks)
    if address:
        struct.pack_into("=Q", made, 0, address)
    else:
        made[200 : 200 + len(leaves)] = leaves
    return bytes(made)


def clip_arguments(table: Table, terms: Terms, numbers: Numbers) -> Any:
    """Return the argument of the kernels of a clip."""
    kind = table.kind
    flags = (
        (JOINT if terms.joint else 0)
        | (NARROW if kind == 2 else 0)
        | (DIVIDED if numbers.divided else 0)
        | _POLICIES[terms.policy]
        | (0 if terms.shrink is None else STRICT)
        | (IN_PLACE if table.inplace else 0)
    )
    args = _Args.from_buffer_copy(table.template)
    shrink = terms.shrink or (1.0, 1.0, 1.0, 1.0)
    rest = (0.0 if terms.limit is None else 1.0, *(0.0,) * 5)
    _VARYING.pack_into(args, 8, *numbers[:9], *shrink, 0.0, terms.eps, *rest)
    _FLAGS.pack_into(args, 184, flags, numbers.bound_kind, numbers.loss_kind, kind)
    return args


def report_arguments(table: Table, terms: Terms, numbers: Numbers) -> Any:
    """Return the argument of the kernel that reports: those of the clip, and the order."""
    args = clip_arguments(table, terms, numbers)
    _ORDER.pack_into(args, _LOW, terms.order)
    return args


def bound_arguments(table: Table, lows: Sequence[float], highs: Sequence[float]) -> Any:
    """Return the argument of the kernel that bounds elements."""
    args = _Args.from_buffer_copy(table.template)
    _VARYING.pack_into(args, 8, *(0,) * 7, *(0.0,) * 6, *lows, *highs)
    return args
