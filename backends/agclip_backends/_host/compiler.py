"""A process that compiles the kernels for this one, so that nothing here waits for a compiler.

Numba's compiler is written in Python: a thread that runs it holds the interpreter lock, and a clip
took up to six times as long meanwhile (`bench/first_use.py`), whatever the thread's priority. A
process of its own, of the lowest priority, leaves the kernels in Numba's cache, from where they are
read in a tenth of the time.

It gets this process's `sys.path`, environment and flags of bytecode, writes nothing to its streams,
is not in the terminal's foreground group, and ends when this process does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_PROGRAM = """
import sys
place, sys.path[:] = sys.argv[1], sys.argv[2:]
from agclip_backends._host import compiler
from agclip_backends._host.compiler import run
compiler.nice = nice
run(place)
"""
_LOWEST, _LOW = 19, 5
"""The nice values of the first process, and of the second, which is started where the first one
gets too little processor time: kernels in the cache are not compiled again. On two cores shared by
13 processes a clip took 1.35 times as long beside a compiler of its own priority, 1.1 with a nice
value of 5 or 10, and 1.00 with 19.
"""
nice = _LOWEST
"""The nice value of this process, if it is the one that compiles."""
_INTERVAL = 0.05
"""Seconds between two polls of the process or of the lock."""
_POLLS_AT_FIRST = 20 * 180
"""Three minutes: it needs 15 seconds where a core is idle, and hours where none is."""
_POLLS = 20 * 3600
"""An hour, after which it is given up."""
_ENVIRONMENT = {
    "AGCLIP_ACCELERATE": "off",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Variables that keep it from starting a compiler of its own, and threads."""
_LAUNCHED = "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MPI_LOCALRANKID"


def why_not() -> str:
    """Return why no process is started from this one; empty if it may be."""
    from agclip_backends._host.team import in_forked_child

    multiprocessing: Any = sys.modules.get("multiprocessing.process")
    name = Path(sys.executable or "").name.lower()
    if getattr(sys, "frozen", False) or not name.startswith("python"):
        return "it is no program of an interpreter that can be started"
    if in_forked_child():
        return "it was forked"
    if multiprocessing is not None and multiprocessing.current_process().daemon:
        return "it is a daemon of multiprocessing"
    if "mpi4py.MPI" in sys.modules or any(variable in os.environ for variable in _LAUNCHED):
        return "it is a rank of MPI"
    return ""


def compiled(place: str, rest: Callable[[float], object]) -> bool:
    """Have the kernels compiled into a folder; tell whether that has been done.

    Args:
        place: The folder of Numba's cache.
        rest: `(seconds)` → sleeps, or raises once the kernels are no longer needed.
    """
    for priority, polls in ((_LOWEST, _POLLS_AT_FIRST), (_LOW, _POLLS)):
        if why_not():
            return False
        program = f"nice = {priority}\n{_PROGRAM}"
        try:
            process = _start(["-c", program, place, *map(str, sys.path)])
        except Exception:  # noqa: BLE001 - a sandbox forbids it in whatever way it likes
            return False
        if _ended(process, polls, rest):
            return bool(process.returncode == 0)
    return False


def _ended(process: Any, polls: int, rest: Callable[[float], object]) -> bool:
    """Poll a process so many times, then kill it; tell whether it has ended by itself."""
    with process:
        try:
            for _ in range(polls):
                if process.poll() is not None:
                    return True
                rest(_INTERVAL)
        finally:
            process.kill()  # nothing, if it has ended
    return False


def trial() -> str:
    """Start a process that does nothing; return why that fails, empty if it does not."""
    reason = why_not()
    if reason:
        return reason
    try:
        with _start(["-S", "-c", ""]) as process:
            status = process.wait()
    except Exception as error:  # noqa: BLE001 - a sandbox forbids it in whatever way it likes
        return f"no process can be started: {error}"
    return f"a process that it starts ends with status {status}" if status else ""


def _start(arguments: Sequence[str]) -> Any:
    import subprocess  # which few programs need

    how: dict[str, Any] = {}
    if sys.platform == "win32":
        how["creationflags"] = subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS
    else:
        # Ctrl-C in a terminal goes to the group in its foreground. A session of its own would be
        # scheduled as such where Linux has groups for them: its priority would count for nothing.
        how["process_group"] = 0
    # -I: no variable PYTHON... has it stop, trace or warn; the path is handed over.
    return subprocess.Popen(
        [sys.executable, "-I", *_flags(), *arguments],
        stdin=subprocess.PIPE,  # which ends when this process does, in whatever way
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
        **how,
    )


def _flags() -> list[str]:
    """Return the flags that bytecode depends on, by which Numba keys its cache, and its files."""
    flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    if sys.dont_write_bytecode:
        flags.append("-B")
    if sys.pycache_prefix is not None:
        flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return flags


def run(place: str) -> None:
    """Compile the kernels, in the process that has been started for it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(AttributeError, OSError):
        os.nice(nice)
    from agclip_backends._host import first_calls, kernels

    if kernels.complete.stats.cache_path != place:
        sys.exit("the folder must be the one in which the other process polls")
    first_calls.make_all(kernels)


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


@contextlib.contextmanager
def locked(place: str, rest: Callable[[float], object]) -> Iterator[None]:
    """Hold a lock on a folder, which one process of this machine has at a time.

    The system releases it when the process ends, and a fork does not inherit it. Where files cannot
    be locked each process starts its own compiler.

    Args:
        place: The folder of Numba's cache.
        rest: `(seconds)` → sleeps, or raises once the kernels are no longer needed.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl  # not on Windows

            file = stack.enter_context(Path(place, "agclip-compiles.lock").open("ab"))
            for _ in range(_POLLS):
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except (BlockingIOError, PermissionError):
                    rest(_INTERVAL)
        yield
