"""What the public functions cost on a GPU, beside the clip of the library itself.

    PYTHONPATH=$PWD:$PWD/backends python3 -m bench.gpu.public torch --seconds 90 --out results

PyTorch's tensors beside `clip_grad_norm_(foreach=True)`, `get_total_norm` and `clip_grad_value_`,
with and without a CUDA graph, and rules and units by themselves; CuPy's arrays beside a clip in
CuPy's own calls; JAX's, in `jax.jit`, beside optax. A time is the wall clock's, host and device
together, from a call to the end of its work; contenders take turns, and a ratio is the quotient of
medians. `--rehearse` runs small cases on the host, to see that all of it works.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import agclip

SIZES = {
    "1e6": (1, (1000, 1000)),
    "1000 x 100": (1000, (100,)),
    "100 x 1024x1024": (100, (1024, 1024)),
    "1e8": (1, (10_000, 10_000)),
    "20 x 64x64": (20, (64, 64)),
    "300 layers, 3.1e8": (300, (1024, 1000)),
    "1e7": (1, (10_000, 1000)),
    "1e9": (1, (100_000, 10_000)),
}
DTYPES = ("float32", "bfloat16", "float64")
STEP = {"float32": 2.0**-10, "bfloat16": 2.0**-6, "float64": 2.0**-10}
"""By what a bound shrinks from call to call, beyond the rounding of a norm in place."""
ABOVE, BELOW = 1e30, 1e-3
"""Bounds that every norm keeps to, and none."""
GRAPHS = ("1e6", "1000 x 100", "100 x 1024x1024")
MODEST = 200_000_000
"""Elements up to which clips whose temporaries are as large as the leaves, and wider, are timed."""
TURNS = 7
TURN = 0.02
"""Seconds of a contender's turn."""

Call = Callable[[], object]
Contest = dict[str, dict[str, Call]]
"""What is done → the contenders that do it; a ratio is to the first."""


def falling(dtype: str, norm: float) -> Iterator[float]:
    """Yield a bound for each call: below the norm that the last call left."""
    bound, least = norm / 2, norm * 2.0**-60
    while True:
        yield bound
        bound *= 1 - STEP[dtype]
        bound = norm / 2 if bound < least else bound


def torch_contest(
    size: str, shapes: list[tuple[int, ...]], dtype: str, device: str
) -> tuple[Contest, Call]:
    import torch
    from torch.nn import utils

    def leaves() -> list[torch.Tensor]:
        return [torch.randn(shape, device=device).to(getattr(torch, dtype)) for shape in shapes]

    ours, theirs = leaves(), []
    for grad in leaves():
        theirs.append(torch.nn.Parameter(torch.empty_like(grad)))
        theirs[-1].grad = grad
    grads = [p.grad for p in theirs if p.grad is not None]
    norm = math.sqrt(sum(x.numel() for x in ours))
    mine, other = falling(dtype, norm), falling(dtype, norm)
    contest: Contest = {
        "clip in place": {
            "torch": lambda: utils.clip_grad_norm_(theirs, next(other), foreach=True),
            "agclip": lambda: agclip.clip_by_global_norm_(ours, next(mine)),
        },
        "within the bound": {
            "torch": lambda: utils.clip_grad_norm_(theirs, ABOVE, foreach=True),
            "agclip": lambda: agclip.clip_by_global_norm_(ours, ABOVE),
        },
        "norm": {
            "torch": lambda: utils.get_total_norm(grads, foreach=True),
            "agclip": lambda: agclip.global_norm(ours),
        },
        "value in place": {
            "torch": lambda: utils.clip_grad_value_(theirs, 0.5, foreach=True),
            "agclip": lambda: agclip.clip_by_value_(ours, -0.5, 0.5),
        },
    }
    if sum(x.numel() for x in ours) <= MODEST:
        # Rules and units by themselves: PyTorch has nothing of the kind.
        rule, zclip = agclip.ClipByGlobalNorm(BELOW), agclip.ZClip()
        state = zclip.init(ours)
        contest["a rule, in place"] = {"agclip": lambda: rule.update_(ours, ())}
        contest["ZClip, in place"] = {"agclip": lambda: zclip.update_(ours, state)}
        if ours[0].ndim == 2:
            contest["rows, in place"] = {"agclip": lambda: agclip.clip_by_norm_(ours, BELOW, 1)}
            contest["units, in place"] = {
                "agclip": lambda: agclip.adaptive_grad_clip_(ours, grads, BELOW, unit_axes="out_in")
            }
    if device == "cuda" and size in GRAPHS:
        calls = {
            "torch": lambda: utils.clip_grad_norm_(theirs, BELOW, foreach=True),
            "agclip": lambda: agclip.clip_by_global_norm_(ours, BELOW),
        }
        contest["clip in place, replayed"] = {name: captured(call) for name, call in calls.items()}
    return contest, torch.cuda.synchronize if device == "cuda" else lambda: None


def captured(call: Call) -> Call:
    """Return the replay of a call: the device's share of it, for a graph has no host."""
    import torch

    call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def cupy_contest(
    size: str, shapes: list[tuple[int, ...]], dtype: str, device: str
) -> tuple[Contest, Call]:
    import cupy

    if dtype == "bfloat16":
        import ml_dtypes

        dtype_ = ml_dtypes.bfloat16
    else:
        dtype_ = dtype
    base = cupy.sin(cupy.arange(math.prod(shapes[0]), dtype="float32")).reshape(shapes[0])
    ours, theirs = ([base.astype(dtype_) for _ in shapes] for _ in range(2))
    norm = math.sqrt(sum(x.size for x in ours) / 2)
    mine, other = falling(dtype, norm), falling(dtype, norm)

    def by_cupy(bound: float) -> None:
        norm = cupy.sqrt(sum(cupy.square(x, dtype="float32").sum() for x in theirs))
        factor = cupy.minimum(1, bound / norm)
        for x in theirs:
            cupy.multiply(x, factor.astype(x.dtype), out=x)

    contest: Contest = {
        "clip in place": {
            "cupy": lambda: by_cupy(next(other)),
            "agclip": lambda: agclip.clip_by_global_norm_(ours, next(mine)),
        },
        "within the bound": {"agclip": lambda: agclip.clip_by_global_norm_(ours, ABOVE)},
        "norm": {"agclip": lambda: agclip.global_norm(ours)},
    }
    if sum(x.size for x in ours) <= MODEST:
        rule = agclip.ClipByGlobalNorm(BELOW)
        contest["a rule, in place"] = {"agclip": lambda: rule.update_(ours, ())}
        if ours[0].ndim == 2:
            contest["rows, in place"] = {"agclip": lambda: agclip.clip_by_norm_(ours, BELOW, 1)}
            contest["units, in place"] = {
                "agclip": lambda: agclip.adaptive_grad_clip_(
                    ours, theirs, BELOW, unit_axes="out_in"
                )
            }
    return contest, cupy.cuda.get_current_stream().synchronize


def jax_contest(
    size: str, shapes: list[tuple[int, ...]], dtype: str, device: str
) -> tuple[Contest, Call]:
    import jax
    import optax

    keys = jax.random.split(jax.random.key(0), len(shapes))
    leaves = [jax.random.normal(k, shape, dtype) for k, shape in zip(keys, shapes, strict=True)]
    last: list[object] = [None]

    def jitted(function: Callable[[Any], Any]) -> Call:
        compiled = jax.jit(function)

        def call() -> None:
            last[0] = compiled(leaves)

        return call

    def by_optax(bound: float) -> Call:
        transformation = optax.clip_by_global_norm(bound)
        return jitted(lambda tree: transformation.update(tree, transformation.init(tree))[0])

    def by_agclip(bound: float) -> Call:
        return jitted(lambda tree: agclip.clip_by_global_norm(tree, bound)[0])

    return {
        "clip in jit": {"optax": by_optax(BELOW), "agclip": by_agclip(BELOW)},
        "within the bound, in jit": {"optax": by_optax(ABOVE), "agclip": by_agclip(ABOVE)},
        "norm in jit": {"optax": jitted(optax.tree.norm), "agclip": jitted(agclip.global_norm)},
    }, lambda: jax.block_until_ready(last[0])


CONTESTS = {"torch": torch_contest, "cupy": cupy_contest, "jax": jax_contest}


def medians(calls: dict[str, Call], wait: Call) -> dict[str, float]:
    """Return the microseconds of each call, in turns of many; the first turn does not count."""
    counts, found = {}, {name: [] for name in calls}
    for name, call in calls.items():
        call()
        wait()
        begin = time.perf_counter()
        call()
        wait()
        counts[name] = max(1, min(500, int(TURN / max(time.perf_counter() - begin, 1e-6))))
    for turn, (name, call) in itertools.product(range(TURNS + 1), calls.items()):
        begin = time.perf_counter()
        for _ in range(counts[name]):
            call()
        wait()
        if turn:
            found[name].append((time.perf_counter() - begin) / counts[name] * 1e6)
    return {name: round(statistics.median(times), 1) for name, times in found.items()}


def with_ratio(times: dict[str, float]) -> dict[str, float]:
    other = next(iter(times))
    if other == "agclip":
        return times
    return {**times, f"agclip ÷ {other}": round(times["agclip"] / times[other], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.public", description=__doc__)
    parser.add_argument("library", choices=CONTESTS)
    parser.add_argument("--seconds", type=float, default=120.0, help="begin no case after them")
    parser.add_argument("--out", default="")
    parser.add_argument("--rehearse", action="store_true", help="small cases, on the host")
    options = parser.parse_args()
    if importlib.util.find_spec(options.library) is None:
        sys.exit(f"{options.library} is not installed")
    begin, failed = time.monotonic(), False
    found: dict[str, Any] = {}
    device = "cpu" if options.rehearse else "cuda"
    sizes = {"3 x 7x5": (3, (7, 5))} if options.rehearse else SIZES
    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
    for (size, (count, shape)), dtype in itertools.product(sizes.items(), DTYPES):
        case = f"{options.library}, {size}, {dtype}"
        if options.library == "jax" and dtype == "float64":
            continue  # JAX makes float32 of it
        if time.monotonic() - begin > options.seconds:
            found[case] = "not measured: no time was left"
            continue
        try:
            contest, wait = CONTESTS[options.library](size, [shape] * count, dtype, device)
            found[case] = {what: with_ratio(medians(c, wait)) for what, c in contest.items()}
        except Exception as error:  # noqa: BLE001 - the other cases go on
            found[case] = f"FAILED: {type(error).__name__}: {str(error)[:300]}"
            failed = True
        print(case, json.dumps(found[case], ensure_ascii=False), flush=True)
        if options.out:  # after every case: what ends the process costs no other one
            path = Path(options.out, f"public-{options.library}.json")
            path.write_text(json.dumps(found, indent=1, ensure_ascii=False))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
