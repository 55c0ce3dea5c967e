"""New memory in large pages, where the system has any.

The system clears a page when it is first written to. Linux does so 4 KiB at a time, which makes a
large result three times as long to write as in pages of 2 MiB, and gives those to whoever asks
(https://docs.kernel.org/admin-guide/mm/transhuge.html). NumPy asks for its own arrays; PyTorch's
allocator does where THP_MEM_ALLOC_ENABLE is set (2.13). Results fill what they are given.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Iterable
from typing import Any

LEAST = 1 << 22
"""Bytes from which on it is worth asking, as in NumPy: a large page fits, wherever they begin."""


@functools.cache
def _madvise() -> Any:
    """Return C's function of that name, None where there is none."""
    try:
        function = ctypes.CDLL(None).madvise
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return function


def ask_for_large_ones(pieces: Iterable[tuple[int, int]]) -> None:
    """Ask for large pages under new memory that is going to be written as a whole.

    Args:
        pieces: Address and bytes of each, `LEAST` bytes or more.
    """
    advice, ask = getattr(mmap, "MADV_HUGEPAGE", None), _madvise()
    if advice is None or ask is None:
        return
    page = mmap.PAGESIZE
    for address, size in pieces:
        start = -(-address // page) * page
        # A kernel without large pages refuses, and results lie in small ones.
        ask(start, (address + size) // page * page - start, advice)
