"""What is kept between calls of the fused kernels: functions, tables of leaves and workspaces."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from agclip_backends._cuda.described import Described, New
from agclip_backends._cuda.fused_source import INLINE
from agclip_backends._cuda.recent import Recent
from agclip_backends._cuda.table import (
    LEAF,
    Library,
    Place,
    Table,
    packed,
    packed_slices,
    template,
)

POINTER = ctypes.c_void_p * 1
_PER_THREAD = 2
"""The handle of the default stream of the calling thread, whichever that is."""


def _words(leaves: int) -> int:
    """Return the words of 8 bytes that counters take: three, and one a leaf, of 4 bytes each."""
    return (leaves + 4) // 2


class UnavailableError(RuntimeError):
    """A kernel cannot be compiled or loaded here."""


class Workspace(NamedTuple):
    """Memory for counters and sums."""

    memory: Any
    address: int
    leaves: int
    doubles: int

    @property
    def partial(self) -> int:
        """Return the address of the sums."""
        return self.address + 8 * _words(self.leaves)


class _Ordered:
    """What lies in memory that is written in the order of a stream, and belongs to that stream."""

    def __init__(self) -> None:
        self.tables: Recent[Table] = Recent()
        self.workspaces: dict[Any, Workspace] = {}


class _OfThread(threading.local, _Ordered):
    """The same of the calling thread's default stream, which no other thread has, and ends with it.

    The number of a thread would not do: one that begins later may have it again.
    """


class Kept:
    """What is kept for the arrays of one library, and launches that make use of it."""

    def __init__(self, library: Library) -> None:
        """Begin with nothing kept."""
        self.library = library
        self._ordered, self._of_thread = _Ordered(), _OfThread()
        self._functions: dict[Any, Any] = {}
        self._processors: dict[int, int] = {}
        self._captured: dict[Any, Table] = {}
        self._kept: list[Any] = []

    def keep(self, *memory: Any) -> None:
        """Keep memory that the graph that is captured reads or writes whenever it is replayed."""
        if not self.library.pools_captures:
            self._kept.append(memory)

    def _launch(
        self,
        place: Place,
        name: str,
        table: Table,
        blocks: int,
        parameters: Any,
        *,
        follows: bool = False,
    ) -> None:
        function = self._function(place, name, table.kinds)
        grid = table.chunks
        if blocks:
            processors = self._processors.get(place.device)
            if processors is None:
                processors = self.library.processors(place)
                self._processors[place.device] = processors
            grid = min(grid, blocks * processors)
        self.library.launch(place, function, grid or 1, parameters, follows=follows)

    def _function(self, place: Place, name: str, kinds: int) -> Any:
        key = (place.device, name, kinds)
        function = self._functions.get(key)
        if function is None:
            try:
                function = self.library.function(place, name, kinds)
            except Exception as error:
                # Compilers and loaders of several libraries fail in ways of their own.
                msg = f"{name} cannot be made: {type(error).__name__}: {error}"
                raise UnavailableError(msg) from error
            self._functions[key] = function
        return function

    def _workspace(self, place: Place, table: Table) -> Workspace:
        """Return memory whose counters are zero; of this stream, or of one capture, alone."""
        number, doubles = table.number, table.chunks + table.number
        if place.capturing:
            return self._new_workspace(place, number, doubles)
        key: Any = (place.device, place.stream)
        workspaces = self._ordered.workspaces
        if place.stream == _PER_THREAD:
            workspaces = self._of_thread.workspaces
        found = workspaces.get(key)
        if found is None or found.leaves < number or found.doubles < doubles:
            old = (0, 0) if found is None else (found.leaves, found.doubles)
            found = self._new_workspace(
                place, max(1023, 2 * number, old[0]), max(8192, doubles + doubles // 2, old[1])
            )
            workspaces[key] = found
        return found

    def _new_workspace(self, place: Place, leaves: int, doubles: int) -> Workspace:
        memory, address = self.library.zeros(place, _words(leaves) + doubles)
        return Workspace(memory, address, leaves, doubles)

    def _table(
        self,
        place: Place,
        described: Described,
        sources: Sequence[Any],
        targets: Sequence[Any] | None,
        weights: tuple[float, ...] | None,
        slices: tuple[int, ...] | None = None,
    ) -> Table | None:
        goals = described
        if targets is not None:
            if isinstance(targets, New):
                found: Described | None = targets.described
            else:
                found = self.library.describe(targets)
            if found is None or found[1:] != described[1:]:
                return None
            goals = found
        long = (len(described.counts) if slices is None else sum(slices)) > INLINE
        stream = place.stream if long and not place.capturing else 0
        other = None if goals is described else goals
        key = (place.device, stream, described, other, weights, slices)
        # What graphs read stays: it is read whenever they are replayed.
        kept = (self._of_thread if place.stream == _PER_THREAD else self._ordered).tables
        captured = long and place.capturing
        table = (self._captured if captured else kept).get(key)
        if table is None:
            together = self.library.together
            if not together(place, sources) or not (goals.apart or goals.once.apart):
                return None
            if targets is not None and not together(place, targets):
                return None
            table = self._new_table(place, described, goals, weights, slices)
            if captured:
                self._captured[key] = table
            else:
                kept.keep(key, table, table.number)
        return table

    def _pair(
        self,
        place: Place,
        described: Described,
        sources: Sequence[Any],
        targets: Sequence[Any] | None,
        weights: tuple[float, ...] | None,
    ) -> tuple[Table | None, Table | None]:
        """Return what is measured and what is written: the same, unless memory is there twice."""
        table = self._table(place, described, sources, targets, weights)
        if table is None or targets is not None or described.once is described:
            return table, table
        return table, self._table(place, described.once, sources, None, weights)

    def _new_table(
        self,
        place: Place,
        described: Described,
        goals: Described,
        weights: tuple[float, ...] | None,
        slices: tuple[int, ...] | None = None,
    ) -> Table:
        if slices is None:
            leaves, chunks, kinds = packed(described, goals, weights)
        else:
            leaves, chunks, kinds = packed_slices(described, goals, slices)
        number, inplace = len(leaves) // LEAF.size, goals.addresses == described.addresses
        upload = self.library.upload
        memory, address = (None, 0) if number <= INLINE else upload(place, leaves)
        return Table(memory, template(leaves, chunks, address), number, chunks, kinds, inplace)

    def map(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any] | None,
        name: str,
        blocks: int,
        arguments: Callable[[Table], tuple[Any, Any]],
        slices: tuple[int, ...] | None = None,
    ) -> bool:
        """Write a function of every element, in one launch; tell whether it has been done.

        `arguments` returns the kernel's argument for a table, and what memory it points to.
        """
        library = self.library
        described = library.describe(sources) if sources else None
        place = None if described is None else library.place(sources)
        if described is None or place is None:
            return False
        if targets is None:
            described = described.once
        table = self._table(place, described, sources, targets, None, slices)
        if table is None:
            return False
        if table.chunks:
            args, memory = arguments(table)
            parameters = POINTER(ctypes.addressof(args))
            self._launch(place, name, table, blocks, parameters)
            if place.capturing:
                self.keep(memory)
            library.written(sources if targets is None else targets)
        return True
