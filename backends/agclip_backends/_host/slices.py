"""How soon a thread gets a core on which another one waits for work without giving it up.

The workers of OpenBLAS do so for tens of milliseconds after a product of matrices, those of OpenMP
for some after a loop. Linux gives a thread that wakes up a busy core once the slice of the other
one is over, after 1.4 ms and more, longer than many a clip; but at once if its own is shorter.
From 6.12 on a thread can ask for a slice; its part of the time is no larger
(https://docs.kernel.org/scheduler/sched-eevdf.html).
"""

from __future__ import annotations

import ctypes
import os
import sys
from struct import Struct

_SLICE = 100_000
"""Nanoseconds: the shortest that Linux gives."""
_NUMBERS = {"x86_64": (315, 314), "aarch64": (275, 274)}
"""Those of sched_getattr and sched_setattr, which glibc has no functions for before 2.41."""
_ATTRIBUTES = Struct("IIQiIQQQ")
"""`struct sched_attr`: size, policy, flags, nice, priority, then runtime, deadline and period."""
_ORDINARY = 0, 3
"""SCHED_OTHER and SCHED_BATCH."""


def ask_for_short_ones() -> None:
    """Have the calling thread run in short slices from now on, where the system has such a thing.

    Nothing else of how it is scheduled changes, and what the system refuses is gone without.
    """
    numbers = _NUMBERS.get(os.uname().machine) if sys.platform == "linux" else None
    if numbers is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return
    get, put = map(ctypes.c_long, numbers)
    this, none, size = ctypes.c_long(0), ctypes.c_long(0), _ATTRIBUTES.size
    attributes = ctypes.create_string_buffer(size)
    try:
        call = ctypes.CDLL(None).syscall
    except (AttributeError, OSError):
        return
    if call(get, this, attributes, ctypes.c_long(size), none) != 0:
        return
    _, policy, *others = _ATTRIBUTES.unpack(attributes.raw)
    if policy in _ORDINARY:
        others[3] = _SLICE
        changed = ctypes.create_string_buffer(_ATTRIBUTES.pack(size, policy, *others), size)
        call(put, this, changed, none)
