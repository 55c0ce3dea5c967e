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

from agclip.adapters import Terms
from agclip_backends._cuda.fused_source import NORMS, RECORD
from agclip_backends._cuda.kept import POINTER, Kept, Workspace
from agclip_backends._cuda.table import (
    Clipped,
    Library,
    Numbers,
    Place,
    Table,
    bound_arguments,
    clip_arguments,
    report_arguments,
)

_SQUARES_AGAIN, _REPORT, _GIVEN = "agclip_norm_2_again", "agclip_report", "agclip_given"
_EVERY = 15
"""All kinds of leaves, as bits."""


class Work(NamedTuple):
    """A clip whose norms and decisions have been launched, and whose products have not."""

    place: Place
    table: Table
    args: Any
    workspace: Workspace
    number: int
    """Of the launch of the norms: those of another one may come before the products."""
    clipped: Clipped
    targets: Sequence[Any]


class Room(Kept):
    """The kernels for the arrays of one library."""

    def __init__(self, library: Library) -> None:
        """Begin with nothing kept."""
        super().__init__(library)
        self._lock = threading.RLock()
        self._launched = 0
        self._fresh: dict[int, int] = {}
        self.norm_blocks = 4
        """Blocks of the norms a multiprocessor; 0 for one a chunk."""
        self.map_blocks = 2
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
        work = self.decide(sources, targets, terms, bound, loss_scale)
        if work is None:
            return None
        self.apply(work)
        return work.clipped

    def decide(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any] | None,
        terms: Terms,
        bound: Any,
        loss_scale: Any = None,
        *,
        record: bool = False,
    ) -> Work | None:
        """Launch the first part of a clip: the arguments are those of `clip`.

        Args:
            sources: The leaves.
            targets: Where the products are going to be written.
            terms: What is done.
            bound: The bound.
            loss_scale: The loss scale.
            record: Whether `Clipped.details` are wanted.

        Raises:
            UnavailableError: If a kernel cannot be compiled or loaded; nothing has been done then.
        """
        library = self.library
        described = library.describe(sources) if sources else None
        if described is None or terms.order not in NORMS:
            return None
        place = library.place(sources)
        if place is None:
            return None
        table, writing = self._pair(place, described, sources, targets, terms.weights)
        if table is None or writing is None:
            return None
        if terms.order == 1 and table.kinds & 8 and terms.norm is None:
            return None
        made = self._numbers(place, table, terms, bound, loss_scale)
        if made is None:
            return None
        numbers, workspace, clipped = made
        self._function(place, "agclip_product", writing.kinds)
        args = clip_arguments(table, terms, numbers)
        # Between these launches nobody else may use the workspace of the stream.
        with self._lock:
            self._norms(place, table, terms, args)
            if terms.limit is not None:
                limit = terms.limit(clipped.norm)  # in memory until it has been read
                bounded = self._bounded(place, limit, numbers)
                if bounded is None:
                    return None
                numbers = bounded
                args = clip_arguments(table, terms, numbers)
                self._given(place, args)
            if record:
                clipped = self._reported(place, table, terms, numbers, described.kinds, clipped)
            self._launched += 1
            self._fresh[workspace.address] = number = self._launched
        if writing is not table:
            args = clip_arguments(writing, terms, numbers)
        return Work(place, writing, args, workspace, number, clipped, targets or sources)

    def apply(self, work: Work) -> None:
        """Launch the second part: write the products."""
        place, table = work.place, work.table
        if table.chunks:
            parameters = POINTER(ctypes.addressof(work.args))
            with self._lock:
                # The norms have left a counter at zero for the products that come next. Others go
                # without: every block has its one chunk then.
                counted = self._fresh.get(work.workspace.address) == work.number
                if counted:
                    del self._fresh[work.workspace.address]
                blocks = self.map_blocks if counted else 0
                self._launch(place, "agclip_product", table, blocks, parameters, follows=True)
        self.library.written(work.targets)

    def _norms(self, place: Place, table: Table, terms: Terms, args: Any) -> None:
        parameters, blocks = POINTER(ctypes.addressof(args)), self.norm_blocks
        if terms.norm is not None:
            self._given(place, args)
            return
        self._launch(place, NORMS[terms.order], table, blocks, parameters)
        if table.kinds & 8 and terms.order == 2:
            self._launch(place, _SQUARES_AGAIN, table, blocks, parameters, follows=True)

    def _given(self, place: Place, args: Any) -> None:
        """Decide by a norm that is known."""
        function = self._function(place, _GIVEN, _EVERY)
        parameters = POINTER(ctypes.addressof(args))
        self.library.launch(place, function, 1, parameters, follows=False)

    def _bounded(self, place: Place, bound: Any, numbers: Numbers) -> Numbers | None:
        """Return what the kernels are told with another bound."""
        if isinstance(bound, float):
            return numbers._replace(bound_at=0, bound=bound)
        found = self.library.scalar(place, bound)
        if found is None:
            return None
        if place.capturing:
            self.keep(bound)
        return numbers._replace(bound_at=found[0], bound_kind=found[1])

    def _reported(
        self,
        place: Place,
        table: Table,
        terms: Terms,
        numbers: Numbers,
        kinds: Sequence[int],
        clipped: Clipped,
    ) -> Clipped:
        """Return a clip with its details, which one more launch writes."""
        library, count = self.library, table.number
        others, others_at = None, 0
        if table.kinds & 8 and terms.order == 2:
            # Sums of squares of float64 are those of elements times a power of two, which other
            # groups of the same leaves have another one of: these are measured by themselves.
            groups = count if terms.joint else 1
            others, others_at = library.doubles(place, RECORD * groups + 1)
            alone = numbers._replace(record=others_at, norm=0, bound_at=0, bound=float("inf"))
            alone = alone._replace(loss_at=0, loss=1.0, divided=False)
            other = Terms(joint=not terms.joint)
            self._norms(place, table, other, clip_arguments(table, other, alone))
        report, report_at = library.doubles(place, 4 + count + (count + 1) // 2)
        told = numbers._replace(norm=report_at, partial=others_at)
        args = report_arguments(table, terms, told)
        function = self._function(place, _REPORT, _EVERY)
        parameters = POINTER(ctypes.addressof(args))
        library.launch(place, function, 1, parameters, follows=False)
        if place.capturing:
            self.keep(others, report)
        details = library.details(report, kinds)
        if terms.limit is None and not numbers.bound_at:
            # A number of the host's comes back with the report: to fill one in is a launch.
            details = details._replace(threshold=report[-1])
        return clipped._replace(details=details)

    def _numbers(
        self, place: Place, table: Table, terms: Terms, bound: Any, loss_scale: Any
    ) -> tuple[Numbers, Workspace, Clipped] | None:
        """Return what the kernels are told, and where they write it down."""
        library = self.library
        at = [(0, 0), (0, 0)]
        # A norm that is given is told in the place of a loss scale.
        other = loss_scale if terms.norm is None else terms.norm
        for i, x in enumerate((bound, other)):
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
            loss=other if isinstance(other, float) else 1.0,
            bound_kind=at[0][1],
            loss_kind=at[1][1],
            divided=loss_scale is not None,
        )
        if place.capturing:
            self.keep(workspace, record, norm)
        return numbers, workspace, Clipped(norm, record)

    def within(
        self,
        sources: Sequence[Any],
        targets: Sequence[Any] | None,
        lows: Sequence[float],
        highs: Sequence[float],
    ) -> bool:
        """Clip every element into an interval, in one launch.

        Args:
            sources: Real leaves, all on one device.
            targets: As for `clip`.
            lows: The lower bound for each kind of leaf, a number of that dtype.
            highs: The upper bounds, likewise.

        Returns:
            Whether it has been done.
        """

        def arguments(table: Table) -> tuple[Any, None]:
            return bound_arguments(table, lows, highs), None

        return self.map(sources, targets, "agclip_within", self.map_blocks, arguments)
