"""The two halves of a clip by themselves: sums of squares of each leaf, and a factor's products.

They are for clips whose decision is made in between by the general program: by norms over several
ranks, say, or of slices of leaves. Each is one launch for any number of leaves, and has the bits of
a whole clip. A slice is to the kernels what a leaf is.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from agclip.adapters import Terms
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.fused_source import ACTIVE, NORMS
from agclip_backends._cuda.kept import POINTER
from agclip_backends._cuda.table import Numbers, Table, clip_arguments

STATE = ACTIVE * 2.0**-1074
"""The last word of a record, read as float64, that has all leaves multiplied by its factor."""

MOST_SLICES = 1 << 16
"""Slices of all leaves of a call: each takes 40 bytes of a table that is kept and, in the products,
a block of its own. Beyond that calls that read slices by the thousand are the better way."""

_JOINT, _EACH = Terms(), Terms(joint=False)
_ORDER = 2.0


def sums(room: Room, leaves: Sequence[Any], slices: tuple[int, ...] | None = None) -> Any | None:
    """Return Σ|x|² of each leaf, formed in float64.

    Args:
        room: The kernels.
        leaves: The leaves.
        slices: Of each leaf how many sums it has, of parts that lie one after the other; None for
            one.

    Returns:
        A new array of one axis, the sums of leaves one after the other; None if not taken.
    """
    library = room.library
    described = library.describe(leaves) if leaves else None
    place = None if described is None else library.place(leaves)
    if described is None or place is None:
        return None
    table = room._table(place, described, leaves, None, None, slices)
    if table is None:
        return None
    workspace = room._workspace(place, table)
    begin = (workspace.partial - workspace.address) // 8 + table.chunks
    numbers = _NOTHING._replace(
        partial=workspace.partial,
        sums=workspace.address + 8 * begin,
        counters=workspace.address,
    )
    args = clip_arguments(table, _EACH, numbers)
    parameters = POINTER(ctypes.addressof(args))
    # Between the launch and the copy nobody else may use the workspace of the stream.
    with room._lock:
        room._launch(place, NORMS[_ORDER], table, room.norm_blocks, parameters)
        found = library.copied(workspace.memory, begin, table.number)
    if place.capturing:
        room.keep(workspace, found)
    if 0 in described.counts:
        numbers_of = slices or (1,) * len(leaves)
        ends = itertools.accumulate(numbers_of)
        for count, end, number in zip(described.counts, ends, numbers_of, strict=True):
            if not count and number:
                found[end - number : end] = 0.0  # no block has written there
    return found


def multiply(
    room: Room,
    sources: Sequence[Any],
    targets: Sequence[Any] | None,
    record: Callable[[], tuple[Any, int]],
    slices: tuple[int, ...] | None = None,
) -> bool:
    """Multiply leaves by one factor, or each of their slices by its own, in one launch.

    Args:
        room: The kernels.
        sources: The leaves, all on one device.
        targets: Arrays with the dtypes, shapes and strides of the sources; None for in place.
        record: Called if leaves are multiplied; returns the words of a decision, which the source
            names, or of one a slice, and their address.
        slices: As for `sums`.

    Returns:
        Whether it has been done.
    """

    def arguments(table: Table) -> tuple[Any, Any]:
        memory, address = record()
        numbers = _NOTHING._replace(record=address)
        return clip_arguments(table, _JOINT if slices is None else _EACH, numbers), memory

    # There is no counter that is known to be zero: every block has its one chunk.
    return room.map(sources, targets, "agclip_product", 0, arguments, slices)


_NOTHING = Numbers(0, 0, 0, 0, 0, 0, 0, math.inf, 1.0, 0, 0, divided=False)
