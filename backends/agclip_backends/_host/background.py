"""Compiled kernels for a program that does not wait for them: it goes on at its pace meanwhile.

Numba is a program of Python, and takes turns with the other threads of its process. So what has to
be compiled is compiled by another process (`compiler.py`). What is left to do here, the import of
Numba and reading what is kept, is done in pieces, with a rest after each as long as it took: of the
clips meanwhile more than half see nothing of it.
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
"""Seconds: how long the end of a program waits for a thread that rests, at most."""


class OverError(Exception):
    """The program has ended, and waits for its threads."""


class _NotKeptError(Exception):
    """A kernel would have to be compiled."""


class Pace:
    """How far the work of a thread has come, for rests that are as long."""

    def __init__(self) -> None:
        """Begin to count."""
        self._since = time.monotonic()

    def rest(self) -> None:
        """Rest for as long as this thread has been at work since it last did."""
        self.wait(time.monotonic() - self._since)

    def wait(self, seconds: float) -> None:
        """Wait.

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
    with compiler.turn(place, pace.wait):
        if not (
            _read(module, pace) or (compiler.compiled(place, pace.wait) and _read(module, pace))
        ):
            first_calls.make_all(module, pace.rest)


def _read(module: Any, pace: Pace) -> bool:
    """Read the kernels that are kept; tell whether all are."""
    try:
        with _nothing_compiled(module.__name__):
            first_calls.make_all(module, pace.rest)
    except _NotKeptError:
        return False
    return True


@contextlib.contextmanager
def _nothing_compiled(name: str) -> Iterator[None]:
    """Refuse this thread to have functions of a module compiled: those on disk are read."""
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
