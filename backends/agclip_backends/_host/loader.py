"""Whether the compiled kernels of host memory are used, and from when on.

Numba takes half a second to import, and seconds to compile on the first use of a machine. So a
thread sees to both as soon as the work that has gone by without is worth it (`background.py`), and
until it is done the array calls of the library answer. The setting `accelerate` has them loaded at
once, or never.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from typing import Any

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
            RuntimeError: If it is, but does not compile.
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
            if _switched_off():
                source = settings().source("accelerate")
                msg = (
                    f'`accelerate` must not be "numba" where Numba does not compile; got it '
                    f"({source}), with NUMBA_DISABLE_JIT. Unset one of them."
                )
                raise RuntimeError(msg)
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
        # Nobody has asked for a Numba that does not fit its NumPy; and the program may be over.
        try:
            self.load_aside()
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
        """Compile every kernel, or read it from the cache on disk, before going on."""
        from agclip_backends._host import first_calls, keeping, kernels

        module: Any = kernels
        try:
            first_calls.make_all(module)
        except keeping.BROKEN:
            module = keeping.in_memory(module)
            first_calls.make_all(module)
        self.module = module

    def load_aside(self) -> None:
        """Do the same in a thread beside those that go on, at as little of their cost as can be."""
        from agclip_backends._host import background

        self.module = background.kernels()

    def abandon(self) -> None:
        """After a fork: the parent's thread is not here to finish, and Numba's locks are taken."""
        self.hopeless = self.thread is not None and self.module is None


loader = Loader()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=loader.abandon)


def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def _switched_off() -> bool:
    """Tell whether Numba is told to leave functions as they are, as to debug them."""
    numba: Any = importlib.import_module("numba")
    return bool(numba.config.DISABLE_JIT)
