"""The fused CUDA kernels on a real device: are they right, and how fast, in one short run.

    PYTHONPATH=$PWD:$PWD/backends python3 -m bench.gpu --budget 60

Every part stands on its own: one that fails is reported and costs the others nothing. Results are
printed as they come, then as tables, and written to `gpu.json` in the folder that `--out` names.
`--rehearse` runs what it can without a GPU, on the source compiled for the host.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch

import agclip
from agclip_backends._cuda import driver
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.fused_source import KERNELS, SOURCE
from agclip_backends._cuda.source import THREADS
from agclip_backends.torch import fused
from agclip_backends.torch.fused import TorchLibrary
from bench.gpu import against_numpy, on_device, run, times

EVERY = 15
"""The kinds of leaves that kernels are compiled for in checks: all, once."""


def compile_one(name: str, kinds: int, capability: tuple[int, int]) -> bytes:
    major = int((torch.version.cuda or "13").partition(".")[0])
    defines = f"-DONLY={KERNELS.index(name)}", f"-DKINDS={kinds}"
    return driver.compile_source(SOURCE, (*fused.OPTIONS, *defines), capability, major)


def compile_all() -> str:
    """Compile side by side what all parts need."""
    capability = torch.cuda.get_device_capability()
    pool = concurrent.futures.ThreadPoolExecutor(len(KERNELS))
    jobs = {name: pool.submit(compile_one, name, EVERY, capability) for name in KERNELS}
    library: Any = run.room.library
    for name, job in jobs.items():
        library._modules[capability, name, EVERY] = job.result(timeout=60)
    return f"{len(jobs)} kernels"


def resident_blocks() -> dict[str, int]:
    """How many blocks of the kernels that have run fit on a multiprocessor."""
    functions = {**run.room._functions, **fused.room._functions}
    return {
        f"{name}, kinds {kinds}": driver.resident(function, THREADS)
        for (_, name, kinds), function in functions.items()
    }


def tables() -> None:
    print("\n== checks:", len(run.results["checks"]), "passed; failed:", run.results["errors"])
    for name, rows in run.results["times"].items():
        print(f"== {name}")
        for label, row in rows.items() if isinstance(rows, dict) else ():
            print(f"   {label:16} {row}")


def leave(reason: str = "") -> None:
    """Print and write what there is, and end, whatever still runs."""
    if reason:
        print(reason, flush=True)
    with contextlib.suppress(Exception):
        tables()
        run.save()
    sys.stdout.flush()
    os._exit(1 if reason or run.results["errors"] else 0)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds")
    parser.add_argument("--size", type=int, default=0, help="entries of the large leaves")
    parser.add_argument("--only", default="", help="words in the names of parts")
    parser.add_argument("--out", default=os.environ.get("OUT", ""))
    parser.add_argument("--rehearse", action="store_true", help="on the host, without a GPU")
    options = parser.parse_args()
    options.size = options.size or (50_000 if options.rehearse else 100_000_000)
    return options


def prepare() -> None:
    """Choose where the kernels run; those of checks are for all kinds of leaves."""
    if run.options.rehearse:
        sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
        import fused_rehearsal

        run.device = "cpu"
        run.room = Room(fused_rehearsal.library())
        return
    run.room = Room(TorchLibrary(every_kind=True))
    properties = torch.cuda.get_device_properties(0)
    run.results["device"] = f"{properties.name}, {driver.version()}"
    run.results["torch"] = f"{torch.__version__}, CUDA {torch.version.cuda}"
    print(run.results["device"], run.results["torch"], flush=True)
    run.part("checks", "compiled", compile_all)


def main() -> None:
    run.options = parsed()
    if agclip.get_backend("torch").fused is None:
        # Without its adapters agclip is no reference: float32 entries round otherwise.
        sys.exit("agclip's adapters must be importable: add backends/ to PYTHONPATH")
    # A kernel that never ends must not take the results along.
    watch = threading.Timer(run.options.budget + 20, leave, ["stopped: the budget was overrun"])
    watch.daemon = True
    watch.start()
    torch.manual_seed(0)
    prepare()
    rehearsed, big = run.options.rehearse, run.options.size
    for name, function in {**against_numpy.CHECKS, **on_device.CHECKS}.items():
        run.part("checks", name, function)
    if not rehearsed:
        for name, function in on_device.ON_DEVICE.items():
            run.part("checks", name, function)
        run.room = fused.room
    run.part("times", "copy rate", times.copy_rate)
    many = 20 if rehearsed else 1
    contests = {
        "f32 1e8": ("f32", [big], 3, 7),
        "bf16 1e8": ("bf16", [big], 3, 7),
        "f64 1e8": ("f64", [big], 3, 5),
        "f32 1e9": ("f32", [10 * big // many], 3, 3),
        "f32 1e6": ("f32", [big // 100], 20, 7),
        "f32 300 x 1e6": ("f32", [big // 100] * (300 // many), 3, 5),
        "bf16 300 x 1e6": ("bf16", [big // 100] * (300 // many), 3, 5),
        "f32 20 x 4096": ("f32", [4096] * 20, 20, 7),
        "f32 1000 x 100": ("f32", [100] * (1000 // many), 10, 5),
    }
    for name, row in contests.items():
        run.part("times", name, times.contest, *row)
    if not rehearsed:
        for name in ("f32 1e8", "f32 1e6", "f32 20 x 4096", "f32 1000 x 100"):
            run.part("times", f"{name}, replayed", times.replayed, *contests[name][:2])
        run.part("times", "new addresses, host us", times.new_addresses)
        run.part("times", "cupy, host us", times.cupy_times)
        run.part("times", "resident blocks", resident_blocks)
    leave()


if __name__ == "__main__":
    main()
