"""Load the compiled kernels in a thread, while the program goes on with array calls.

Numba is written in Python, and holds the interpreter lock. So what has to be compiled is compiled
by another process (`compiler.py`). What is left for the thread, importing Numba and reading its
cache, is done in pieces, and after each the thread sleeps for as long as it took: more than half of
the clips meanwhile take no longer.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from agclip_backends._host import compiler, first_calls, keeping

_PIECES = "llvmlite.binding", "numba", "agclip_backends._host.kernels"
_SLICE = 0.05
"""Seconds that the thread sleeps at once: a program that ends waits for it that long at most."""


class OverError(Exception):
    """The main thread has ended, and waits for the others."""


class _NotKeptError(Exception):
    """A kernel is not in the cache, and would have to be compiled."""


class Pace:
    """Sleeps of a thread that last as long as its work between them."""

    def __init__(self) -> None:
        """Start the clock."""
        self._since = time.monotonic()

    def rest(self) -> None:
        """Sleep for as long as has passed since the last sleep."""
        self.wait(time.monotonic() - self._since)

    def wait(self, seconds: float) -> None:
        """Sleep.

        Raises:
            OverError: If the main thread has ended.
        """
        while threading.main_thread().is_alive():
            if seconds <= 0:
                self._since = time.monotonic()
                return
            time.sleep(min(seconds, _SLICE))
            seconds -= _SLICE
        raise OverError


def kernels() -> Any:
    """Return the compiled kernels.

    Raises:
        OverError: If the program has ended before they were there.
    """
    pace = Pace()
    module: Any = None
    for name in _PIECES:
        module = importlib.import_module(name)
        pace.rest()
    try:
        _read_or_compiled(module, pace)
    except keeping.BROKEN:
        module = keeping.in_memory(module)
        first_calls.make_all(module, pace.rest)
    return module


def _read_or_compiled(module: Any, pace: Pace) -> None:
    """Have all kernels there: read, compiled by another process and read, or compiled here."""
    if _read(module, pace):
        return
    place = module.complete.stats.cache_path
    if place is None:
        first_calls.make_all(module, pace.rest)
        return
    with compiler.locked(place, pace.wait):
        if not (
            _read(module, pace) or (compiler.compiled(place, pace.wait) and _read(module, pace))
        ):
            first_calls.make_all(module, pace.rest)


def _read(module: Any, pace: Pace) -> bool:
    """Read the kernels from Numba's cache; tell whether all are there."""
    try:
        with _nothing_compiled(module.__name__):
            first_calls.make_all(module, pace.rest)
    except _NotKeptError:
        return False
    return True


@contextlib.contextmanager
def _nothing_compiled(name: str) -> Iterator[None]:
    """Raise where this thread would compile a function of a module; those in the cache are read."""
    from numba.core import event

    this = threading.get_ident()

    class Refusal(event.Listener):  # type: ignore[misc]  # Numba says nothing of types
        def on_start(self, event: Any) -> None:
            if event.data["module"] == name and threading.get_ident() == this:
                raise _NotKeptError

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:run_pass", Refusal()):
        yield
