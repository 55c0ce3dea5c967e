"""A process that compiles the kernels for this one, so that nothing here waits for a compiler.

Numba's compiler is a program of Python: a thread that runs it takes turns with all others of its
process, and a clip took up to six times as long meanwhile (`bench/first_use.py`). No priority of a
thread helps, for what they wait for is the interpreter. A process of its own, of the lowest
priority, leaves the kernels in Numba's cache, from where they are read in a tenth of the time.

It gets nothing of this process but its path and its environment, says nothing, is no part of the
terminal's foreground, and ends when this process does.
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
"""The lowest priority, for what others leave, and that of a second process, if it is too little:
kernels that the first one has kept are not compiled again. On two cores that 13 processes wanted a
clip took 1.35 times as long beside a compiler of the same priority, 1.1 with 5 or 10, and 1.00 with
19.
"""
nice = _LOWEST
"""What this process lowers its priority by, where it is the one that compiles."""
_LOOK = 0.05
"""Seconds between two looks at whether it has ended."""
_LOOKS_AT_FIRST = 20 * 180
"""Of the lowest priority it needs 15 seconds where a core is idle, and hours where none is."""
_LOOKS = 20 * 3600
"""After an hour something is wrong with it, and it is not waited for any longer."""
_ALONE = {
    "AGCLIP_ACCELERATE": "off",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""What its environment has besides: it starts no compiler and no threads."""
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
        rest: `(seconds)` → waits as long, and raises if there is no need of the kernels any more.
    """
    for priority, looks in ((_LOWEST, _LOOKS_AT_FIRST), (_LOW, _LOOKS)):
        if why_not():
            return False
        program = f"nice = {priority}\n{_PROGRAM}"
        try:
            process = _start(["-c", program, place, *map(str, sys.path)])
        except Exception:  # noqa: BLE001 - a sandbox forbids it in whatever way it likes
            return False
        if _ended(process, looks, rest):
            return bool(process.returncode == 0)
    return False


def _ended(process: Any, looks: int, rest: Callable[[float], object]) -> bool:
    """Wait for a process, and end it after so many looks; tell whether it has ended by itself."""
    with process:
        try:
            for _ in range(looks):
                if process.poll() is not None:
                    return True
                rest(_LOOK)
        finally:
            process.kill()  # nothing, if it has ended
    return False


def trial() -> str:
    """Return why no process can be started from this one: one is, to see it. Empty if it can."""
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
        env={**os.environ, **_ALONE},
        **how,
    )


def _flags() -> list[str]:
    """Return this process's flags of bytecode: Numba's cache asks for the same, files go there."""
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
        sys.exit("the folder must be the one in which the other process looks")
    first_calls.make_all(kernels)


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


@contextlib.contextmanager
def turn(place: str, rest: Callable[[float], object]) -> Iterator[None]:
    """Wait until no other process of this machine compiles into a folder.

    The lock is the system's, and goes with the process that has it; a fork does not inherit it.
    Where there is none, each process has its own compiler.

    Args:
        place: The folder of Numba's cache.
        rest: `(seconds)` → waits as long, and raises if there is no need of the kernels any more.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl  # not on Windows

            file = stack.enter_context(Path(place, "agclip-compiles.lock").open("ab"))
            for _ in range(_LOOKS):
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except (BlockingIOError, PermissionError):
                    rest(_LOOK)
        yield
