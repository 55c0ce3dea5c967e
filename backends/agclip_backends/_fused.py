"""Calls of the fused CUDA kernels: a whole clip in two launches, whatever the number of leaves.

Nothing here waits for the device, and everything can be captured in a CUDA graph. What a call needs
on the device besides the leaves is small: a workspace for sums, one a stream, kept and grown; a
table of the leaves' addresses, kept as long as they are the same and passed with the launch if it
is short; and a record of the decisions, new for every call, which the result refers to.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from agclip_backends._cuda_source import CHUNK
from agclip_backends._fused_source import (
    DIVIDED,
    INLINE,
    JOINT,
    NARROW,
    NORMS,
    RECORD,
    SKIP,
    STRICT,
    ZERO,
)

_LEAF = struct.Struct("=QQqIid")
_SIZE = 200 + INLINE * _LEAF.size
_COUNTS = struct.Struct("=iI")  # leaves, chunks
_VARYING = struct.Struct("=7Q14d")
_FLAGS = struct.Struct("=4i")
_POINTER = ctypes.c_void_p * 1

MOST_TABLES = 64
"""Tables that are kept."""

_POLICIES = {"propagate": 0, "error": 0, "zero": ZERO, "skip": SKIP}
_SQUARES_AGAIN = "agclip_norm_2_again"
_PER_THREAD = 2
"""The handle of the default stream of the calling thread, whichever that is."""

_Args: Any = ctypes.c_char * _SIZE


class Place(NamedTuple):
    """Where a call runs."""

    device: int
    stream: int
    capturing: bool
    """Whether launches are only written down, to be replayed later."""


class Described(NamedTuple):
    """What the kernels have to know of leaves: each an integer a leaf."""

    addresses: tuple[int, ...]
    counts: tuple[int, ...]
    """Of real entries: a complex one is two."""
    kinds: tuple[int, ...]


class Library(Protocol):
    """What an array library offers: arrays on the device, and the kernels as functions."""

    def describe(self, leaves: Sequence[Any]) -> Described | None:
        """Describe leaves; None unless each is dense and of a kind that the kernels know."""
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
        """Return a new array of float64 of one axis, its entries unset, and its address."""
        ...

    def zeros(self, place: Place, count: int) -> tuple[Any, int]:
        """Return a new array of float64 zeros of one axis, and its address."""
        ...

    def number(self, place: Place, kind: int) -> tuple[Any, int]:
        """Return a new 0-d array of float32 (2) or float64 (3), unset, and its address."""
        ...

    def upload(self, place: Place, data: bytearray) -> tuple[Any, int]:
        """Return a copy on the device, without waiting for it, and its address."""
        ...

    def pinned(self, size: int) -> tuple[Any, int]:
        """Return memory of the host that the device can read, and its address."""
        ...

    def processors(self, place: Place) -> int:
        """Return the number of multiprocessors."""
        ...

    def function(self, place: Place, name: str, kinds: int) -> Any:
        """Return a kernel, compiled for kinds of leaves given as bits."""
        ...

    def launch(self, place: Place, function: Any, grid: int, parameters: Any) -> None:
        """Run a kernel in blocks of THREADS; `parameters` points to the addresses of arguments."""
        ...

    def copy(self, place: Place, target: int, source: int, size: int) -> None:
        """Copy pinned memory of the host to the device in the stream."""
        ...


class Terms(NamedTuple):
    """What a clip does, apart from its numbers."""

    joint: bool = True
    """One norm over all leaves; otherwise each leaf on its own."""
    order: float = 2.0
    policy: str = "propagate"
    """What becomes of a group that is not finite: "propagate", "zero" or "skip"."""
    shrink: tuple[float, float, float, float] | None = None
    """Factor on the bound for a strict one, by the kind of leaf; None for a plain bound."""
    weights: tuple[float, ...] | None = None
    """For each leaf what the bound is multiplied by, where each leaf is a group."""


class Clipped(NamedTuple):
    """What a clip leaves behind, all on the device."""

    norm: Any
    """The joint norm before clipping, 0-d, float64 if a leaf is, else float32; None for others."""
    record: Any
    """RECORD numbers of float64 a group; the source names them."""


class _Table(NamedTuple):
    memory: Any
    template: bytes
    number: int
    chunks: int
    kinds: int
    """Bits of the kinds that there are."""


class _Workspace(NamedTuple):
    memory: Any
    address: int
    leaves: int
    doubles: int

    @property
    def partial(self) -> int:
        return self.address + 8 * ((self.leaves + 2) // 2)


class Room:
    """The kernels for the arrays of one library."""

    def __init__(self, library: Library) -> None:
        """Begin with nothing kept."""
        self._library = library
        self._tables: dict[Any, _Table] = {}
        self._workspaces: dict[Any, _Workspace] = {}
        self._functions: dict[Any, Any] = {}
        self._processors: dict[int, int] = {}
        self._kept: list[Any] = []
        self._reserve: tuple[Any, int, int] | None = None
        self.norm_blocks = 4
        """Blocks of the norms a multiprocessor; 0 for one a chunk."""
        self.map_blocks = 8
        """Blocks of the products a multiprocessor; 0 for one a chunk."""

    def clip(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any] | None,
        terms: Terms,
        bound: Any,
        loss_scale: Any = None,
    ) -> Clipped | None:
        """Clip leaves by their norms.

        Args:
            sources: The leaves, all on one device.
            targets: Arrays with the dtypes, shapes and strides of the sources; None for in place.
            terms: What is done.
            bound: A float >= 0, or a 0-d array on the leaves' device.
            loss_scale: What the leaves come in multiplied by, likewise; None for one.

        Returns:
            The norm and the decisions; None, and nothing done, if the kernels do not take the call.
        """
        library = self._library
        described = library.describe(sources) if sources else None
        if described is None or terms.order not in NORMS:
            return None
        place = library.place(sources)
        if place is None:
            return None
        table = self._table(place, described, sources, targets, terms.weights)
        if table is None or (terms.order == 1 and table.kinds & 8):
            return None
        made = self._arguments(place, table, terms, bound, loss_scale)
        if made is None:
            return None
        args, clipped = made
        parameters = _POINTER(ctypes.addressof(args))
        self._launch(place, NORMS[terms.order], table, self.norm_blocks, parameters)
        if table.kinds & 8 and terms.order == 2:
            self._launch(place, _SQUARES_AGAIN, table, self.norm_blocks, parameters)
        if table.chunks:
            self._launch(place, "agclip_product", table, self.map_blocks, parameters)
        return clipped

    def _arguments(
        self, place: Place, table: _Table, terms: Terms, bound: Any, loss_scale: Any
    ) -> tuple[Any, Clipped] | None:
        """Return what the kernels are told, and where they write it down."""
        library = self._library
        at = [(0, 0), (0, 0)]
        for i, x in enumerate((bound, loss_scale)):
            if x is not None and not isinstance(x, float):
                found = library.scalar(place, x)
                if found is None:
                    return None
                at[i] = found
        groups = 1 if terms.joint else table.number
        workspace = self._workspace(place, table)
        record, record_at = library.doubles(place, RECORD * groups + 1)
        wide = bool(table.kinds & 8)
        kind = 3 if wide else 2
        norm, norm_at = library.number(place, kind) if terms.joint else (None, 0)
        flags = (
            (JOINT if terms.joint else 0)
            | (0 if wide else NARROW)
            | (0 if loss_scale is None else DIVIDED)
            | _POLICIES[terms.policy]
            | (0 if terms.shrink is None else STRICT)
        )
        args = _Args.from_buffer_copy(table.template)
        _VARYING.pack_into(
            args,
            8,
            workspace.partial,
            workspace.partial + 8 * table.chunks,
            workspace.address,
            record_at,
            norm_at,
            at[0][0],
            at[1][0],
            bound if isinstance(bound, float) else 0.0,
            loss_scale if isinstance(loss_scale, float) else 1.0,
            *(terms.shrink or (1.0, 1.0, 1.0, 1.0)),
            *(0.0,) * 8,
        )
        _FLAGS.pack_into(args, 184, flags, at[0][1], at[1][1], kind)
        return args, Clipped(norm, record)

    def within(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any] | None,
        lows: Sequence[float],
        highs: Sequence[float],
    ) -> bool:
        """Clip every entry into an interval, in one launch.

        Args:
            sources: Real leaves, all on one device.
            targets: As for `clip`.
            lows: The lower bound for each kind of leaf, a number of that dtype.
            highs: The upper bounds, likewise.

        Returns:
            Whether it has been done.
        """
        library = self._library
        described = library.describe(sources) if sources else None
        place = None if described is None else library.place(sources)
        if described is None or place is None:
            return False
        table = self._table(place, described, sources, targets, None)
        if table is None:
            return False
        if table.chunks:
            args = _Args.from_buffer_copy(table.template)
            _VARYING.pack_into(args, 8, *(0,) * 7, *(0.0,) * 6, *lows, *highs)
            parameters = _POINTER(ctypes.addressof(args))
            self._launch(place, "agclip_within", table, self.map_blocks, parameters)
        return True

    def _launch(self, place: Place, name: str, table: _Table, blocks: int, parameters: Any) -> None:
        key = (place.device, name, table.kinds)
        function = self._functions.get(key)
        if function is None:
            function = self._library.function(place, name, table.kinds)
            self._functions[key] = function
        grid = table.chunks
        if blocks:
            processors = self._processors.get(place.device)
            if processors is None:
                processors = self._library.processors(place)
                self._processors[place.device] = processors
            grid = min(grid, blocks * processors)
        self._library.launch(place, function, grid or 1, parameters)

    def _workspace(self, place: Place, table: _Table) -> _Workspace:
        """Return memory whose counters are zero; of this stream, or of one capture, alone."""
        number, doubles = table.number, table.chunks + table.number
        if place.capturing:
            made = self._new_workspace(place, number, doubles)
            self._kept.append(made)
            return made
        key: Any = (place.device, place.stream)
        if place.stream == _PER_THREAD:
            key = (*key, threading.get_ident())
        found = self._workspaces.get(key)
        if found is None or found.leaves < number or found.doubles < doubles:
            old = (0, 0) if found is None else (found.leaves, found.doubles)
            found = self._new_workspace(
                place, max(1023, 2 * number, old[0]), max(8192, doubles + doubles // 2, old[1])
            )
            self._workspaces[key] = found
        return found

    def _new_workspace(self, place: Place, leaves: int, doubles: int) -> _Workspace:
        memory, address = self._library.zeros(place, (leaves + 2) // 2 + doubles)
        return _Workspace(memory, address, leaves, doubles)

    def _table(
        self,
        place: Place,
        described: Described,
        sources: Sequence[Any],
        targets: Sequence[Any] | None,
        weights: tuple[float, ...] | None,
    ) -> _Table | None:
        goals = described
        if targets is not None:
            found = self._library.describe(targets)
            if found is None or found[1:] != described[1:]:
                return None
            goals = found
        long = len(described.counts) > INLINE
        stream = place.stream if long else 0
        key = (place.device, stream, described, goals.addresses, weights)
        table = None if long and place.capturing else self._tables.get(key)
        if table is None:
            together = self._library.together
            if not together(place, sources) or _overlap(goals):
                return None
            if targets is not None and not together(place, targets):
                return None
            table = self._new_table(place, described, goals, weights)
            if long and place.capturing:
                # Its memory is filled by the graph alone.
                self._kept.append(table)
            else:
                while len(self._tables) >= MOST_TABLES:
                    self._tables.pop(next(iter(self._tables)), None)
                self._tables[key] = table
        return table

    def _new_table(
        self,
        place: Place,
        described: Described,
        goals: Described,
        weights: tuple[float, ...] | None,
    ) -> _Table:
        number, chunks, kinds = len(described.counts), 0, 0
        leaves = bytearray(number * _LEAF.size)
        rows = zip(*described, goals.addresses, weights or (1.0,) * number, strict=True)
        for i, (source, count, kind, target, weight) in enumerate(rows):
            _LEAF.pack_into(leaves, i * _LEAF.size, source, target, count, chunks, kind, weight)
            chunks += -(-count // CHUNK)
            kinds |= 1 << kind
        template = bytearray(_SIZE)
        _COUNTS.pack_into(template, 176, number, chunks)
        memory = None
        if number <= INLINE:
            template[200 : 200 + len(leaves)] = leaves
        else:
            memory, address = self._upload(place, leaves)
            struct.pack_into("=Q", template, 0, address)
        return _Table(memory, bytes(template), number, chunks, kinds)

    def _upload(self, place: Place, data: bytearray) -> tuple[Any, int]:
        library = self._library
        if not place.capturing:
            if self._reserve is None:
                memory, address = library.pinned(1 << 20)
                self._reserve = memory, address, 1 << 20
            return library.upload(place, data)
        # A graph reads the host's memory whenever it is replayed; and pinned memory cannot always
        # be had while one is captured.
        size = len(data)
        if self._reserve is None or self._reserve[2] < size:
            memory, address = library.pinned(max(size, 1 << 20))
            self._reserve = memory, address, max(size, 1 << 20)
        memory, source, left = self._reserve
        self._reserve = memory, source + size, left - size
        self._kept.append(memory)
        ctypes.memmove(source, bytes(data), size)
        room, target = library.doubles(place, size // 8)
        library.copy(place, target, source, size)
        return room, target


def _overlap(described: Described) -> bool:
    """Tell whether leaves share memory: blocks of one launch run in no order."""
    size = (2, 2, 4, 8)
    ends = sorted(
        (address, address + count * size[kind])
        for address, count, kind in zip(*described, strict=True)
        if count
    )
    return any(end > begin for (_, end), (begin, _) in itertools.pairwise(ends))
