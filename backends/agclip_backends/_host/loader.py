"""Whether the compiled kernels of host memory are used, and from when on.

Numba takes half a second to import, and seconds to compile on the first use of a machine. So a
thread does both as soon as the work that has gone by without is worth it, and until it is done the
array calls of the library answer. The setting `accelerate` has them loaded at once, or never.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from typing import Any

import numpy as np

from agclip.adapters import settings

_WORTH = 1 << 22
"""Elements: array calls take milliseconds for as many."""
_LEAF = 1 << 10
"""What a leaf counts for, besides its elements."""


class Loader:
    """The kernels once they are there, and the work that has been done without."""

    def __init__(self) -> None:
        self.module: Any = None
        self.work = 0
        self.thread: threading.Thread | None = None
        self.hopeless = False

    def kernels(self) -> Any:
        """Return the compiled kernels, or None while it goes without.

        Raises:
            ModuleNotFoundError: If `accelerate` is "numba", and it is not installed.
        """
        mode = settings().accelerate
        if mode == "numba" and self.module is None and not self.hopeless:
            if not _installed():
                source = settings().source("accelerate")
                msg = (
                    f'`accelerate` must not be "numba" without Numba; got it ({source}). Run: '
                    f'pip install "agclip[fast]"'
                )
                raise ModuleNotFoundError(msg)
            self._load_unless_over()
        return None if mode == "off" else self.module

    def went_without(self, leaves: int, elements: int) -> None:
        """Take note of a call; when it was worth it, have the kernels loaded in another thread."""
        if self.hopeless or self.thread is not None:
            return
        self.work += leaves * _LEAF + elements
        if self.work < _WORTH:
            return
        if settings().accelerate != "auto":
            self.work = 0
            return
        if not _installed():
            self.hopeless = True
            return
        self.thread = threading.Thread(target=self._try_to_load, name="agclip compiler")
        try:
            self.thread.start()
        except RuntimeError:
            # The system gives no more threads for now, or the interpreter ends.
            self.thread, self.work = None, 0

    def _try_to_load(self) -> None:
        # Nobody has asked for a Numba that does not fit its NumPy, or cannot write its cache.
        try:
            self.load()
        except Exception:  # noqa: BLE001 - it may break in any way, and array calls go on
            self.hopeless = True

    def _load_unless_over(self) -> None:
        # What Numba imports asks for threads and for calls at the end (SciPy 1.18 does by way of
        # concurrent.futures): Python refuses both once the main thread has ended, or is about to.
        try:
            if threading.main_thread().is_alive():
                self.load()
            else:
                self.hopeless = True
        except RuntimeError as error:
            if threading.main_thread().is_alive() and "shutdown" not in str(error):
                raise
            self.hopeless = True

    def load(self) -> None:
        """Compile every kernel, or read it from the cache on disk."""
        from agclip_backends._host import kernels as module

        # What the tables point to has to live until the last call.
        calls, _arrays = _first_calls(module)
        for kernel, *arguments in calls:
            if not threading.main_thread().is_alive():
                # The program is over, and waits for this thread.
                return
            kernel(*arguments)
        module.team_body()
        self.module = module

    def abandon(self) -> None:
        """After a fork: the parent's thread is not here to finish, and Numba's locks are taken."""
        self.hopeless = self.thread is not None and self.module is None


loader = Loader()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=loader.abandon)


def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def _first_calls(k: Any) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """Return a call of every kernel on an array of each format, and these arrays."""
    arrays = [np.ones(2, dtype) for dtype in (np.uint16, np.uint16, np.float32, np.float64)]
    table = np.empty((4, len(arrays) + 1), np.int64)
    table[k.ADDRESS, :-1] = [array.ctypes.data for array in arrays]
    table[k.COUNT, :-1] = 2
    table[k.CODE, :-1] = k.FLOAT16, k.BFLOAT16, k.FLOAT32, k.FLOAT64
    targets = table[k.ADDRESS, :-1].copy()
    sums, n = np.empty(len(arrays)), len(arrays)
    ones = np.ones(n)
    none: list[Any] = []
    empty = np.zeros((4, 1), np.int64)
    calls = [
        (k.complete, table, True),
        (k.sum_squares, table, 0, n, 1.0, sums),
        (k.totals, table, sums, sums),
        (k.scale, table, 0, n, targets, ones),
        (k.maxima, table, sums, sums),
        (k.clip, table, 0, n, targets, ones, ones),
        (k.peaks, table, 0, n, sums),
        (k.sum_magnitudes, table, 0, n, sums),
        (k.exact_parts, table, 0, n, 1.0, ones[:3], True, np.empty((n, 3), np.int64)),
        (k.read_arrays, id(none), 16, np.empty((1, 3), np.int64), False, empty),
        (k.read_tensors, id(none), 16, targets, np.empty((1, 3), np.int64), False, empty),
    ]
    return calls, [arrays, none]
