"""Calls of the fused CUDA kernels: a whole clip in two launches, whatever the number of leaves.

Nothing here waits for the device, and everything can be captured in a CUDA graph. What a call needs
on the device besides the leaves is small: a workspace for sums, one a stream, kept and grown; a
table of the leaves' addresses, kept as long as they are the same and passed with the launch if it
is short; and a record of the decisions, new for every call, which the result refers to.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip_backends._cuda.fused_source import INLINE, NORMS, RECORD
from agclip_backends._cuda.table import (
    Clipped,
    Described,
    Library,
    Numbers,
    Place,
    Table,
    Terms,
    bound_arguments,
    clip_arguments,
    overlap,
    packed,
    template,
)

_POINTER = ctypes.c_void_p * 1
_SQUARES_AGAIN = "agclip_norm_2_again"
_PER_THREAD = 2
"""The handle of the default stream of the calling thread, whichever that is."""

MOST_TABLES = 64
"""Tables that are kept."""


def _words(leaves: int) -> int:
    """Return the words of 8 bytes that counters take: three, and one a leaf, of 4 bytes each."""
    return (leaves + 4) // 2


class _Workspace(NamedTuple):
    memory: Any
    address: int
    leaves: int
    doubles: int

    @property
    def partial(self) -> int:
        return self.address + 8 * _words(self.leaves)


class Room:
    """The kernels for the arrays of one library."""

    def __init__(self, library: Library) -> None:
        """Begin with nothing kept."""
        self._library = library
        self._tables: dict[Any, Table] = {}
        self._workspaces: dict[Any, _Workspace] = {}
        self._functions: dict[Any, Any] = {}
        self._processors: dict[int, int] = {}
        self._kept: list[Any] = []
        self._captured: dict[Any, Table] = {}
        self.norm_blocks = 4
        """Blocks of the norms a multiprocessor; 0 for one a chunk."""
        self.map_blocks = 3
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
            again = _SQUARES_AGAIN
            self._launch(place, again, table, self.norm_blocks, parameters, follows=True)
        if table.chunks:
            product = "agclip_product"
            self._launch(place, product, table, self.map_blocks, parameters, follows=True)
        library.written(sources if targets is None else targets)
        return clipped

    def _arguments(
        self, place: Place, table: Table, terms: Terms, bound: Any, loss_scale: Any
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
        workspace = self._workspace(place, table)
        groups = 1 if terms.joint else table.number
        record, record_at = library.doubles(place, RECORD * groups + 1)
        norm, norm_at = library.number(place, table.kind) if terms.joint else (None, 0)
        numbers = Numbers(
            partial=workspace.partial,
            sums=workspace.partial + 8 * table.chunks,
            counters=workspace.address,
            record=record_at,
            norm=norm_at,
            bound_at=at[0][0],
            loss_at=at[1][0],
            bound=bound if isinstance(bound, float) else 0.0,
            loss=loss_scale if isinstance(loss_scale, float) else 1.0,
            bound_kind=at[0][1],
            loss_kind=at[1][1],
            divided=loss_scale is not None,
        )
        if place.capturing and not library.pools_captures:
            # A graph writes there whenever it is replayed.
            self._kept.append((workspace, record, norm))
        return clip_arguments(table, terms, numbers), Clipped(norm, record)

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
            args = bound_arguments(table, lows, highs)
            parameters = _POINTER(ctypes.addressof(args))
            self._launch(place, "agclip_within", table, self.map_blocks, parameters)
            library.written(sources if targets is None else targets)
        return True

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
        self._library.launch(place, function, grid or 1, parameters, follows=follows)

    def _workspace(self, place: Place, table: Table) -> _Workspace:
        """Return memory whose counters are zero; of this stream, or of one capture, alone."""
        number, doubles = table.number, table.chunks + table.number
        if place.capturing:
            return self._new_workspace(place, number, doubles)
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
        memory, address = self._library.zeros(place, _words(leaves) + doubles)
        return _Workspace(memory, address, leaves, doubles)

    def _table(
        self,
        place: Place,
        described: Described,
        sources: Sequence[Any],
        targets: Sequence[Any] | None,
        weights: tuple[float, ...] | None,
    ) -> Table | None:
        goals = described
        if targets is not None:
            found = self._library.describe(targets)
            if found is None or found[1:] != described[1:]:
                return None
            goals = found
        long = len(described.counts) > INLINE
        stream = place.stream if long and not place.capturing else 0
        key = (place.device, stream, described, goals.addresses, weights)
        # What graphs read stays: it is read whenever they are replayed.
        tables = self._captured if long and place.capturing else self._tables
        table = tables.get(key)
        if table is None:
            together = self._library.together
            if not together(place, sources) or overlap(goals):
                return None
            if targets is not None and not together(place, targets):
                return None
            table = self._new_table(place, described, goals, weights)
            while tables is self._tables and len(tables) >= MOST_TABLES:
                tables.pop(next(iter(tables)), None)
            tables[key] = table
        return table

    def _new_table(
        self,
        place: Place,
        described: Described,
        goals: Described,
        weights: tuple[float, ...] | None,
    ) -> Table:
        leaves, chunks, kinds = packed(described, goals, weights)
        number, inplace = len(described.counts), goals.addresses == described.addresses
        upload = self._library.upload
        memory, address = (None, 0) if number <= INLINE else upload(place, leaves)
        return Table(memory, template(leaves, chunks, address), number, chunks, kinds, inplace)
