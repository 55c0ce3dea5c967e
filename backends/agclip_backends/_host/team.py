"""A library's own team of threads, where it is one of OpenMP, which works off a kernel's call.

In a training loop the clip comes right after `backward()`, when the threads of the library's team
still spin on their cores and wait for the next loop: threads of our own would have to take turns
with them (`bench/in_training.py`). All runtimes of OpenMP for Linux and macOS, GNU's, LLVM's and
Intel's, export what a compiler's code calls for a parallel region, `GOMP_parallel`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np

from agclip_backends._host.threads import Shares

_LONGEST = 63
"""Calls: then it is tried again, which takes a busy machine a time slice, some 20 ms."""
_FORKED = 0x40
"""PF_FORKNOEXEC of Linux, in the ninth field of /proc/self/stat."""


class Team:
    """The team that the threads of a library's loops are taken from.

    Each thread that calls has a team of its own, as in every program of OpenMP.
    """

    def __init__(self, parallel: Any, level: Any) -> None:
        """Take the functions of the runtime.

        Args:
            parallel: `GOMP_parallel(body, data, threads, flags)`; it returns when all are done.
            level: `omp_get_level()`, how many parallel regions the calling thread is in.
        """
        self._parallel = parallel
        self._level = level
        self._rest = self._next_rest = 0

    @property
    def runtime(self) -> str:
        """Return the file name of the runtime; "OpenMP" if the system does not tell it."""
        found = _Symbol()
        address = ctypes.cast(self._parallel, ctypes.c_void_p)
        try:
            ctypes.CDLL(None).dladdr(address, ctypes.byref(found))
        except AttributeError:
            return "OpenMP"
        return Path(os.fsdecode(found.file or b"OpenMP")).name

    def free(self) -> bool:
        """Tell whether this thread can begin a parallel region now.

        Not in a forked child: the threads of GNU's team are not there, and it waits for them for
        ever. Not within another region, which would be nested. Not once the program ends.
        """
        return not (
            _forked.here
            or sys.is_finalizing()
            or not threading.main_thread().is_alive()
            or self._level()
        )

    def prompt(self) -> bool:
        """Tell whether its threads are likely to come at once.

        A region ends when all of its threads have come, and where other processes want the cores
        one may come when nothing is left to do. After such a call it is given a rest of one call,
        then of three, up to `_LONGEST`.
        """
        if self._rest > 0:
            self._rest -= 1
            return False
        return True

    def work_off(self, kernels: Any, job: Any, threads: int) -> None:
        """Work off a job in this thread and in the rest of the team; nobody is at it at the end.

        It is one call of C: an interrupt is raised after it.

        Args:
            kernels: The compiled kernels.
            job: Words as `kernels.team_body` reads them.
            threads: How many threads there are, this one included. Others than last time are
                ended and started, which takes longer than many a clip.

        Raises:
            MemoryError: If a thread had no memory to work with.
        """
        self._parallel(kernels.team_body(), job.ctypes.data, threads, 0)
        check(kernels, job)
        shares = -(-job[kernels.BLOCKS] // job[kernels.SHARE])
        late = job[kernels.CAME] < min(threads, shares)
        self._rest = self._next_rest = min(2 * self._next_rest + 1, _LONGEST) if late else 0


class _Symbol(ctypes.Structure):
    """What `dladdr` tells of an address: `Dl_info` of dlfcn.h."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


class _Forked:
    """Whether this process is the child of a fork that has not started another program."""

    def __init__(self) -> None:
        self.here = _is_forked()

    def note(self) -> None:
        self.here = True


def _is_forked() -> bool:
    """Tell it where the parent has not loaded agclip; only Linux does."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        # The second field is the name of the program in brackets, which may hold anything.
        return bool(int(fields.rpartition(")")[2].split()[6]) & _FORKED)
    except (OSError, ValueError, IndexError):
        return False


_forked = _Forked()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked.note)


def in_forked_child() -> bool:
    """Tell whether this process is the child of a fork that has not started another program."""
    return _forked.here


def team_of(path: str) -> Team | None:
    """Return the team of a library, or None if its runtime cannot be found.

    The loader binds a name to the first definition in the program and what was loaded for all,
    then in what the library depends on; it is looked up here in the same order. So this is the
    runtime that the library calls, also where several are loaded, or one is preloaded.

    Args:
        path: A file of the library that is loaded, and depends on the runtime.
    """
    for place in (None, path):
        try:
            # No copy is loaded that is not there.
            library = ctypes.CDLL(place, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            parallel, level = library.GOMP_parallel, library.omp_get_level
        except (AttributeError, OSError, TypeError):
            continue
        parallel.restype, level.restype, level.argtypes = None, ctypes.c_int, ()
        parallel.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
        return Team(parallel, level)
    return None


TEAMS: dict[str, Callable[[], Team | None]] = {}
"""How to find the team of each library that may have one, by name: for those who ask."""


def job_of(kernels: Any, table: Any, kernel: Any, threads: int, arguments: Sequence[Any]) -> Any:
    """Return the words for a kernel's call on all blocks of a table.

    They hold addresses: what they belong to has to live until the job is done.
    """
    blocks = int(table[kernels.FIRST, -1])
    job = [0] * kernels.WORDS
    job[kernels.KERNEL] = kernels.SHARED[kernel]
    job[kernels.BLOCKS], job[kernels.SHARE] = blocks, share(blocks, threads)
    job[kernels.TABLE], job[kernels.LEAVES] = table.ctypes.data, table.shape[1] - 1
    for place, argument in enumerate(arguments, kernels.ARGUMENTS):
        job[place] = _word(argument)
    return np.array(job, np.int64)


def parts_of(kernels: Any, job: Any, threads: int, held: Any, owned: Any) -> Shares:
    """Return a job as shares of agclip's own threads: each takes part in it until it is done.

    A call of C a thread, not one a share: Python has one thread at a time at work between calls.

    Args:
        kernels: The compiled kernels.
        job: Words as `kernels.team_body` reads them.
        threads: How many threads there are, at most.
        held: What the job holds the addresses of.
        owned: What else has to live as long.
    """
    take_part = _body(kernels)

    def one(_: int, __: int, ___: Any = held) -> None:
        take_part(job.ctypes.data)

    parts = min(threads, -(-int(job[kernels.BLOCKS]) // int(job[kernels.SHARE])))
    return Shares(one, parts, 1, owned)


@functools.cache
def _body(kernels: Any) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernels.team_body())


def check(kernels: Any, job: Any) -> None:
    """See that nothing of a job is left.

    Raises:
        MemoryError: If a thread had no memory to work with.
    """
    if job[kernels.DONE] != job[kernels.BLOCKS]:
        msg = "there must be memory for 64 KiB a thread; got none. Free some memory."
        raise MemoryError(msg)


_DOUBLE, _LONG = Struct("d"), Struct("q")


def _word(argument: Any) -> int:
    if isinstance(argument, np.ndarray):
        address: int = argument.ctypes.data
        return address
    if isinstance(argument, float):
        bits: int = _LONG.unpack(_DOUBLE.pack(argument))[0]
        return bits
    return int(argument)


_SHARE = 16
"""Blocks that a thread takes at a time, at most."""


def share(blocks: int, threads: int) -> int:
    """Return how many blocks a thread takes at a time: each one some, unless there are few."""
    return min(max(blocks // (16 * threads), 1), _SHARE)
