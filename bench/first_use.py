"""How long a fresh process goes without compiled kernels, and what it costs meanwhile.

    PYTHONPATH=$PWD:$PWD/backends python -m bench.first_use

A wheel of agclip holds nothing compiled: Numba compiles the kernels on a machine's first use, in a
process of its own where one can be started, and keeps them on disk. Until then array calls answer.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import report

PROGRAM = """
import json, os, sys, time
if sys.argv[1] == "without":
    sys.modules["numba"] = None
begin = time.perf_counter()
import numpy as np
import agclip
from agclip_backends._host.loader import loader
imported = time.perf_counter() - begin
leaves = [np.full(100_000, 2.0, "float32") for _ in range(50)]
if sys.argv[1] == "tensors":
    import torch
    leaves = [torch.from_numpy(leaf) for leaf in leaves]
if sys.argv[1] == "thread":
    from agclip_backends._host import compiler
    compiler.why_not = lambda: "no process is wanted"

def clip():
    begin = time.perf_counter()
    agclip.clip_by_global_norm(leaves, 1.0)
    return time.perf_counter() - begin

def without():
    with agclip.config_context(accelerate="off"):
        return [clip() for _ in range(12)]

plain = without()
begin, used = time.perf_counter(), 0.0
meanwhile = [clip()]
while loader.thread is not None and loader.module is None and loader.thread.is_alive():
    if hasattr(time, "pthread_getcpuclockid"):
        used = time.clock_gettime(time.pthread_getcpuclockid(loader.thread.ident))
    meanwhile.append(clip())
seconds = time.perf_counter() - begin
times = os.times()
used += times.children_user + times.children_system
after = [clip() for _ in range(12)]
print(json.dumps({
    "imported": imported, "plain": plain + without(), "meanwhile": meanwhile,
    "seconds": seconds, "used": used, "kernels": loader.module is not None, "after": after,
}))
"""


def _start(case: str, cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "AGCLIP_ACCELERATE": "auto"}
    if cache.is_file():
        # As where neither the package's folder nor the home can be written.
        environment["NUMBA_CACHE_LOCATOR_CLASSES"] = "UserProvidedCacheLocator"
    command = [sys.executable, "-W", "error", "-c", PROGRAM, case]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _end(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, error = process.communicate()
    if process.returncode or error:
        sys.exit(f"a process must end well; got {process.returncode}: {error}")
    found: dict[str, Any] = json.loads(out)
    return found


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what fresh processes have found, by name."""
    with tempfile.TemporaryDirectory() as folder:
        shared, other, third, no_folder = (Path(folder, name) for name in "abcd")
        no_folder.write_text("")
        yield "nothing compiled yet", _end(_start("", shared))
        yield "compiled before", _end(_start("", shared))
        pair = [_start("", other) for _ in range(2)]
        for number, process in enumerate(pair, 1):
            yield f"two at once, nothing compiled yet: {number}", _end(process)
        yield "compiled by the two", _end(_start("", other))
        yield "no process may be started", _end(_start("thread", third))
        yield "nowhere to write", _end(_start("", no_folder))
        yield "without Numba", _end(_start("without", shared))
        if importlib.util.find_spec("torch"):
            yield "tensors, nothing compiled yet", _end(_start("tensors", Path(folder, "e")))


HEAD = (
    "", "import, s", "first clip, ms", "second", "plain", "meanwhile", "the slowest",
    "÷ plain", "until the kernels, s", "CPU, s", "then, ms",
)  # fmt: skip


def _row(name: str, found: dict[str, Any]) -> list[str]:
    plain, meanwhile, after = (
        statistics.median(found[key]) * 1e3 for key in ("plain", "meanwhile", "after")
    )
    first, second = (f"{seconds * 1e3:.2f}" for seconds in found["plain"][:2])
    clips = [f"{plain:.2f}", f"{meanwhile:.2f}", f"{max(found['meanwhile']) * 1e3:.1f}"]
    loaded = found["kernels"]
    times = [f"{found[key]:.2f}" if loaded else "–" for key in ("seconds", "used")]
    return [
        name, f"{found['imported']:.2f}", first, second, *clips,
        f"{meanwhile / plain:.2f}", *times, f"{after:.2f}",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    rows = [list(HEAD), *(_row(name, found) for name, found in cases())]
    report.show(rows)


if __name__ == "__main__":
    main()
