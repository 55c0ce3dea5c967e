"""Threads that share a kernel's call: none of them is at work on it once the call has ended.

Ctrl-C raises in the main thread after any call of Python, and ends any wait of Python's early:
those of `concurrent.futures`, of locks and of `Thread.start` as well. A helper that is left behind
then writes to memory that its owner has back. So a helper passes a door before it takes part, and
whoever leaves locks all doors in one call of C, on the locks of CPython's own C API.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import itertools
import os
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from agclip_backends._host import slices

_WAIT, _TRY = 1, 0

_python: Any = ctypes.pythonapi
_new_lock = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", _python))
_try_lock = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(
    ("PyThread_acquire_lock", _python)
)
# The only one that waits, so it lets others have the interpreter.
_lock = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(
    ("PyThread_acquire_lock", _python)
)
_unlock = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("PyThread_release_lock", _python))


class Shares:
    """A kernel's call on a number of blocks, which any number of threads work off together.

    Whoever takes part holds it, and with it all that the kernel reads and writes.
    """

    __slots__ = ("__weakref__", "_blocks", "_error", "_kernel", "_size", "_starts", "over", "owned")

    def __init__(
        self, kernel: Callable[[int, int], None], blocks: int, size: int, owned: Any
    ) -> None:
        """Take note of what is to be done.

        Args:
            kernel: `(start, stop)` → None; it works off some blocks.
            blocks: The number of all.
            size: How many a thread takes at a time.
            owned: What has to live for as long as the kernel may be at work.
        """
        self._kernel = kernel
        self._blocks = blocks
        self._size = size
        self._starts = itertools.count(0, size)
        self._error: BaseException | None = None
        self.over = False
        self.owned = owned

    def __len__(self) -> int:
        return len(range(0, self._blocks, self._size))

    def take(self) -> None:
        """Work off shares until none is left, or there is no need of them any more."""
        while not self.over and (start := next(self._starts)) < self._blocks:
            self._kernel(start, min(start + self._size, self._blocks))

    def help(self) -> None:
        """Do the same for another thread, which is told of a failure."""
        try:
            self.take()
        except BaseException as error:  # noqa: BLE001 - a share is not done, whatever the reason
            self._error = error
            self.over = True

    def check(self) -> None:
        """Raise what a helper has failed with."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error.with_traceback(None)
            finally:
                # Its traceback has this frame: without the name there is no cycle.
                del error


class _Crew:
    """The helpers of this process, and what they are asked to take part in."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: the child of a fork has none of its parent's threads."""
        self.calls: SimpleQueue[tuple[int, weakref.ref[Shares]]] = SimpleQueue()
        self.count = 0
        self.spare: list[int] = []
        """Doors that no call uses. None is ever freed: a helper may be late, and still try one."""

    def doors(self, wanted: int) -> list[int]:
        """Return an open door for each helper that there is, at most as many as wanted."""
        made = [self._door() for _ in range(self._helpers(wanted))]
        return [door for door in made if door]

    def _helpers(self, wanted: int) -> int:
        """Return how many helpers there are, at most as many as wanted; missing ones are started.

        There are fewer where the system gives no more threads, or the interpreter ends.
        """
        try:
            while self.count < wanted:
                # `Thread.start` waits for the thread, which an interrupt ends: a thread that nobody
                # knows would be left.
                _thread.start_new_thread(self._serve, ())
                self.count += 1
        except (RuntimeError, MemoryError):
            pass
        return min(self.count, wanted)

    def _door(self) -> int | None:
        """Return an open door; None if there is no memory for one."""
        try:
            return self.spare.pop()
        except IndexError:
            made: int | None = _new_lock()
            return made

    def _serve(self) -> None:
        with contextlib.suppress(BaseException):
            slices.ask_for_short_ones()
        while True:
            # Nothing ends a helper: it has been counted.
            with contextlib.suppress(BaseException):
                self._take_part()

    def _take_part(self) -> None:
        door, call = self.calls.get()
        if _try_lock(door, _TRY):
            try:
                _help(call)
            finally:
                _unlock(door)


def _help(call: weakref.ref[Shares]) -> None:
    shares = call()
    if shares is not None:
        shares.help()


_crew = _Crew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_crew.forget)


def work_off(shares: Shares, threads: int) -> None:
    """Work off shares in this thread and in others; nobody is at it any more at the end.

    Raises:
        BaseException: What the kernel has raised, in whichever thread.
        RuntimeError: If the process was forked by a signal handler in the midst: what the helpers
            of the parent have begun is not done in the child.
    """
    doors = _crew.doors(min(threads, len(shares)) - 1)
    locked = map(_lock, doors, itertools.repeat(_WAIT))
    calls = _crew.calls
    try:
        for door in doors:
            calls.put((door, weakref.ref(shares)))
        shares.take()
    finally:
        shares.over = True
        # An interrupt raises between calls, and `all` is one: it ends when the last helper is out.
        if calls is _crew.calls:
            all(locked)
            any(map(_unlock, doors))
            _crew.spare += doors
    if doors and calls is not _crew.calls:
        msg = (
            "a process must not be forked in the midst of a clip; got a fork by a signal handler. "
            "Fork between clips."
        )
        raise RuntimeError(msg)
    shares.check()
