"""Everything that needs a GPU, in one run: checks side by side, then times one after the other.

    PYTHONPATH=$PWD:$PWD/backends python3 -m bench.gpu.whole --budget 430 --out results

Every part is a process of its own with a limit: one that fails, hangs or ends the process costs
the others nothing. `gpu.json` and `gpu.md` in the folder that `--out` names are written anew after
every part, beside the parts' own files and what they printed (`*.log`). It takes what is installed:
PyTorch at least; CuPy, JAX with optax, pytest and pytest-xdist if they are there. `--rehearse` runs
small cases on a machine without a GPU, to see that all of it works. The exit status is 1 if a part
fails.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from bench.gpu import summary

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "torch", "triton", "cupy-cuda13x", "cupy-cuda12x", "jax", "jaxlib", "optax", "numpy",
    "ml-dtypes", "numba", "array-api-compat", "pytest", "hypothesis",
)  # fmt: skip
TESTS = (
    "tests/backends/test_fused_gpu.py",
    "tests/backends/test_slices_gpu.py",
    "tests/backends/test_torch_gpu.py",
    "tests/backends/test_cuda_torch.py",
    "tests/backends/test_cupy.py",
    "tests/backends/test_cupy_elementwise.py",
    "tests/integrations/torch/test_clip_grad_gpu.py",
    "tests/integrations/torch/test_on_gpu.py",
)
"""The test files that skip what they have for a GPU where there is none."""
SHARES = {"torch": 3, "cupy": 3, "jax": 6}
"""Processes that share the conformance suite of a library, by how long it takes."""
LIBRARIES = {"torch": "torch", "cupy": "cupy", "jax": "optax"}
"""Libraries whose public functions are timed, and what must be installed for it."""
ALONE = {
    "public torch": 0.2,
    "training": 0.12,
    "ranks": 0.1,
    "times of kernels": 0.12,
    "public jax": 0.1,
    "public cupy": 0.07,
}
"""Parts that have the device for themselves, in this order, and their shares of the budget."""


def here(package: str, options: argparse.Namespace) -> bool:
    """Tell whether a package is installed, and works in what is run: CuPy needs a GPU."""
    rehearsed = options.rehearse and package == "cupy"
    return importlib.util.find_spec(package) is not None and not rehearsed


def left_out(options: argparse.Namespace) -> dict[str, str]:
    """Return the parts that are not run for want of a package, with the reason."""
    needs = {"tests": "pytest", **{f"conformance {library}": library for library in SHARES}}
    needs |= {f"public {library}": needed for library, needed in LIBRARIES.items()}
    if options.rehearse:  # on what stands in for a GPU in tests
        needs |= {"checks of kernels": "pytest", "times of kernels": "pytest"}
    rehearsed = "works on a GPU alone" if options.rehearse else "is not installed"
    return {
        part: f"{package} {rehearsed if importlib.util.find_spec(package) else 'is not installed'}"
        for part, package in needs.items()
        if not here(package, options)
    }


class Part(NamedTuple):
    """A process: its name in reports, what Python is given, and how many seconds it may take."""

    name: str
    arguments: Sequence[str]
    limit: float


def module(name: str, *arguments: Any) -> list[str]:
    return ["-m", name, *map(str, arguments)]


def beside_each_other(options: argparse.Namespace, limit: float) -> Iterable[Part]:
    """Yield the parts in which no time is taken."""
    rehearse = ["--rehearse"] if options.rehearse else []
    out = ["--out", options.out / "kernels", "--budget", limit]
    yield Part(
        "checks of kernels", module("bench.gpu", "--only", "checks", *out, *rehearse), limit + 30
    )
    processes = ["-n", "4"] if here("xdist", options) and not options.rehearse else []
    for file in TESTS if here("pytest", options) else ():
        # A plug-in for benchmarks warns beside xdist, and warnings are errors.
        quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-o", "addopts="]
        end = ["--maxfail", "60", "-rfE", *processes, file]
        yield Part(f"tests {Path(file).stem}", module("pytest", *quiet, *end), limit)
    for library, shares in SHARES.items():
        if not here(library, options):
            continue
        every = 60 if options.rehearse else shares
        for share in range(1 if options.rehearse else shares):
            given = [library, share, every, "--seconds", limit - 20, "--out", options.out]
            given += rehearse
            name = f"conformance {library} {share}"
            yield Part(name, module("bench.gpu.conformance", *given), limit)


def alone(options: argparse.Namespace) -> list[Part]:
    """Return the parts that take times, in the order of `ALONE`."""
    order = list(ALONE)
    return sorted(_alone(options), key=lambda part: order.index(part.name))


def _alone(options: argparse.Namespace) -> Iterable[Part]:
    rehearse = ["--rehearse"] if options.rehearse else []
    limits = {name: max(20.0, share * options.budget) for name, share in ALONE.items()}
    limit = limits["training"] + 20
    yield Part("training", module("bench.gpu.training", "--out", options.out, *rehearse), limit)
    device = "cpu" if options.rehearse else "cuda"
    yield Part("ranks", module("bench.gpu.ranks", "--device", device), limits["ranks"] + 20)
    limit = limits["times of kernels"]
    out = ["--out", options.out / "times", "--budget", limit]
    yield Part(
        "times of kernels", module("bench.gpu", "--only", "times", *out, *rehearse), limit + 30
    )
    for library, needed in LIBRARIES.items():
        limit = limits[f"public {library}"]
        given = [library, "--seconds", limit, "--out", options.out, *rehearse]
        if here(needed, options):
            yield Part(f"public {library}", module("bench.gpu.public", *given), limit + 25)


class Run:
    """What has been found, and the file of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.begin = time.monotonic()
        self.found: dict[str, Any] = {
            "versions": versions(), "left out": left_out(options), "parts": {}
        }  # fmt: skip
        self._lock = threading.Lock()

    def left(self) -> float:
        return float(self.options.budget) - (time.monotonic() - self.begin)

    def run(self, part: Part, limit: float) -> None:
        """Run a part, and keep how it ended and the last that it said."""
        log = Path(self.options.out, part.name.replace(" ", "_") + ".log")
        begin = time.monotonic()
        with log.open("w") as file:
            try:
                command = [sys.executable, *part.arguments]
                code: Any = subprocess.run(
                    command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=limit,
                    check=False,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                code = "out of time"
        said = log.read_text(errors="replace").splitlines()
        ended = {"code": code, "seconds": round(time.monotonic() - begin, 1), "said": said[-12:]}
        print(f"{time.monotonic() - self.begin:5.0f} s  {part.name}: {code}", flush=True)
        with self._lock:
            self.found["parts"][part.name] = ended
            self.save()

    def save(self) -> None:
        """Write what there is, with the files that parts have written."""
        out = self.options.out
        self.found["seconds"] = round(time.monotonic() - self.begin)
        self.found["results"] = summary.results(out)
        out.joinpath("gpu.json").write_text(json.dumps(self.found, indent=1, ensure_ascii=False))
        out.joinpath("gpu.md").write_text(summary.table(self.found))


def versions() -> dict[str, Any]:
    """Return what is run on: device, driver, packages, revision."""
    found: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    asked = {
        "device": ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
        "revision": ["git", "rev-parse", "--short", "HEAD"],
    }
    for name, command in asked.items():
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        found[name] = done.stdout.strip()
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.whole", description=__doc__)
    parser.add_argument("--budget", type=float, default=430.0, help="seconds, more or less")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu_results")))
    parser.add_argument("--only", default="", help="words in the names of parts, by commas")
    parser.add_argument("--rehearse", action="store_true", help="on the host, without a GPU")
    options = parser.parse_args()
    options.out = options.out.absolute()
    return options


def main() -> None:
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.update(AGCLIP_CONFIG="none", XLA_PYTHON_CLIENT_PREALLOCATE="false")
    words, absent = options.only.split(","), left_out(options)

    def wanted(parts: Iterable[Part]) -> list[Part]:
        named = [part for part in parts if any(word in part.name for word in words)]
        return [part for part in named if part.name not in absent]

    timed = wanted(alone(options))
    run = Run(options)
    print(json.dumps(run.found["versions"]), flush=True)
    for name, reason in run.found["left out"].items():
        print(f"not run: {name}: {reason}", flush=True)
    taken = sum(ALONE[part.name] for part in timed) * options.budget
    early = max(60.0, options.budget - taken - 15)
    at_once = 2 if options.rehearse else max(2, min(14, (os.cpu_count() or 2) - 2))
    with ThreadPoolExecutor(at_once) as pool:
        for part in wanted(beside_each_other(options, early)):
            pool.submit(run.run, part, part.limit)
    for part in timed:
        if run.left() > 0:
            run.run(part, min(part.limit, run.left() + 25))
    run.save()
    print(options.out.joinpath("gpu.md").read_text())
    bad = [name for name, ended in run.found["parts"].items() if ended["code"] != 0]
    sys.exit(f"failed: {', '.join(bad)}" if bad else 0)


if __name__ == "__main__":
    main()
