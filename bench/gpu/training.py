"""What a clip adds to a training step on a GPU: PyTorch's function, the drop-in, and a folded step.

    PYTHONPATH=$PWD:$PWD/backends python3 -m bench.gpu.training --out results

Every contender clips the same gradients before `AdamW(fused=True)` takes its step; what it costs is
its time above that of the step alone, of the same process and in turn with the others. The drop-in
is timed by itself as well. `--rehearse` runs small cases on the host, to see that all of it works.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import agclip
from agclip.integrations.torch import attach, clip_grad_norm_

SIZES: dict[str, list[tuple[int, ...]]] = {
    "20 x 64x64": [(64, 64)] * 20,
    "1000 x 100": [(100,)] * 1000,
    "1 x 1e6": [(1000, 1000)],
    "30 M, 100 layers": [(300, 1000)] * 100,
    "300 M, 300 layers": [(1000, 1000)] * 300,
}
BOUND = 1e-3
"""Below every norm here, so that each call multiplies."""

Call = Callable[[], object]


def parameters(shapes: Sequence[tuple[int, ...]], device: str) -> list[torch.nn.Parameter]:
    made = []
    for shape in shapes:
        made.append(torch.nn.Parameter(torch.zeros(shape, device=device)))
        made[-1].grad = torch.randn(shape, device=device)
    return made


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turn(calls: dict[str, Call], turns: int, inner: int) -> dict[str, dict[str, float]]:
    """Medians over turns: microseconds on the host, and until the device is done."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn, (name, call) in itertools.product(range(turns + 1), calls.items()):
        wait()
        begin = time.perf_counter()
        for _ in range(inner):
            call()
        called = time.perf_counter()
        wait()
        if turn:
            done = time.perf_counter()
            found[name].append(((called - begin) / inner * 1e6, (done - begin) / inner * 1e6))
    return {
        name: {
            "host us": round(statistics.median(host for host, _ in pairs), 1),
            "wall us": round(statistics.median(wall for _, wall in pairs), 1),
        }
        for name, pairs in found.items()
    }


def functions(shapes: Sequence[tuple[int, ...]], device: str) -> dict[str, Call]:
    """The function by itself, by PyTorch and in its place."""
    theirs, ours = parameters(shapes, device), parameters(shapes, device)
    grads = [p.grad for p in parameters(shapes, device)]
    return {
        "torch": lambda: torch.nn.utils.clip_grad_norm_(theirs, BOUND, foreach=True),
        "drop-in": lambda: clip_grad_norm_(ours, BOUND),
        "clip_by_global_norm_": lambda: agclip.clip_by_global_norm_(grads, BOUND),
    }


def steps(shapes: Sequence[tuple[int, ...]], device: str) -> dict[str, Call]:
    """A step of AdamW with each clip before it."""

    def made(before: Callable[[list[torch.nn.Parameter]], object], **options: Any) -> Call:
        ps = parameters(shapes, device)
        optimizer = torch.optim.AdamW(ps, lr=1e-9, fused=True)
        if options:
            attach(optimizer, agclip.ClipByGlobalNorm(BOUND), **options)

        def call() -> None:
            before(ps)
            optimizer.step()

        return call

    return {
        "step alone": made(lambda _: None),
        "torch": made(lambda ps: torch.nn.utils.clip_grad_norm_(ps, BOUND, foreach=True)),
        "drop-in": made(lambda ps: clip_grad_norm_(ps, BOUND)),
        "attached": made(lambda _: None, fold=False),
        "folded": made(lambda _: None, fold=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.training", description=__doc__)
    parser.add_argument("--out", default="")
    parser.add_argument("--rehearse", action="store_true", help="small cases, on the host")
    options = parser.parse_args()
    device = "cpu" if options.rehearse else "cuda"
    sizes = {"3 x 10": [(10,)] * 3} if options.rehearse else SIZES
    found: dict[str, Any] = {"torch": torch.__version__}
    if not options.rehearse:
        found["device"] = torch.cuda.get_device_name()
    for name, shapes in sizes.items():
        inner = 3 if len(shapes) >= 300 else 10
        for what, build in (("function", functions), ("step", steps)):
            rows = in_turn(build(shapes, device), 9, inner)
            found[f"{what}, {name}"] = rows
            print(f"{what}, {name}", json.dumps(rows), flush=True)
            if options.out:  # after every case: what ends the process costs no other one
                Path(options.out).mkdir(parents=True, exist_ok=True)
                Path(options.out, "training.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
