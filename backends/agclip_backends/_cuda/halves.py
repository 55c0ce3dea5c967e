"""The two halves of a clip by themselves: sums of squares of each leaf, and a factor's products.

They are for clips whose decision is made in between by the general program: by norms over several
ranks, say. Each is one launch for any number of leaves, and has the bits of a whole clip.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from agclip.adapters import Terms
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.fused_source import ACTIVE, NORMS
from agclip_backends._cuda.kept import POINTER
from agclip_backends._cuda.table import Numbers, Table, clip_arguments

STATE = ACTIVE * 2.0**-1074
"""The last word of a record, read as float64, that has all leaves multiplied by its factor."""

_TERMS = Terms()
_ORDER = 2.0


def sums(room: Room, leaves: Sequence[Any]) -> Any | None:
    """Return Σ|x|² of each leaf, formed in float64: a new array of one axis; None if not taken."""
    library = room.library
    described = library.describe(leaves) if leaves else None
    place = None if described is None else library.place(leaves)
    if described is None or place is None:
        return None
    table = room._table(place, described, leaves, None, None)
    made = None if table is None else room._numbers(place, table, _TERMS, math.inf, None)
    if table is None or made is None:
        return None
    numbers, workspace, _ = made
    args = clip_arguments(table, _TERMS, numbers)
    parameters = POINTER(ctypes.addressof(args))
    begin = (numbers.sums - workspace.address) // 8
    # Between the launch and the copy nobody else may use the workspace of the stream.
    with room._lock:
        room._launch(place, NORMS[_ORDER], table, room.norm_blocks, parameters)
        found = library.copied(workspace.memory, begin, table.number)
    for i, count in enumerate(described.counts):
        if not count:
            found[i] = 0.0
    return found


def multiply(
    room: Room, sources: Sequence[Any], targets: Sequence[Any] | None, record: tuple[Any, int]
) -> bool:
    """Multiply leaves by one factor, in one launch.

    Args:
        room: The kernels.
        sources: The leaves, all on one device.
        targets: Arrays with the dtypes, shapes and strides of the sources; None for in place.
        record: The words of a decision, which the source names, and their address.

    Returns:
        Whether it has been done.
    """
    numbers = Numbers(0, 0, 0, record[1], 0, 0, 0, math.inf, 1.0, 0, 0, divided=False)

    def arguments(table: Table) -> Any:
        return clip_arguments(table, _TERMS, numbers)

    # There is no counter that is known to be zero: every block has its one chunk.
    return room.map(sources, targets, "agclip_product", 0, arguments)
