"""Times of the fused CUDA kernels beside PyTorch's own clip, and the rate of a copy."""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

import agclip
from agclip.integrations.torch import clip_grad_norm_
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.fused_source import NORMS
from agclip_backends._cuda.table import Terms, clip_arguments
from bench.gpu import run

ABOVE = 1e30
"""A bound that no norm reaches."""


def copy_rate() -> dict[str, float]:
    """The roof is a copy of 1 GiB; beside it a copy and a product in place of 10^8 entries."""
    size = 1 << (28 if run.device == "cuda" else 14)
    a = torch.randn(size, device=run.device)
    b = torch.empty_like(a)
    b.copy_(a)
    run.results["copy"] = 8 * size / run.event_times(lambda: b.copy_(a), 4, 7)
    n = min(size, 100_000_000)
    copied = run.event_times(lambda: b[:n].copy_(a[:n]), 4, 7)
    multiplied = run.event_times(lambda: a[:n].mul_(1.0001), 4, 7)
    return {
        "TB/s": round(run.results["copy"] / 1e12, 3),
        "copy of 1e8": run.share(2, n, 4, copied),
        "product of 1e8": run.share(2, n, 4, multiplied),
    }


def falling(name: str, start: float) -> Iterator[float]:
    bound = start
    while True:
        bound *= 1 - run.STEP[name]
        yield bound


def norm_alone(here: Room, leaves: Sequence[torch.Tensor]) -> Callable[[], None]:
    """The first of the two launches by itself."""
    library = here.library
    described, place = library.describe(leaves), library.place(leaves)
    assert described is not None
    assert place is not None
    table = here._table(place, described, leaves, None, None)
    assert table is not None
    made = here._numbers(place, table, Terms(), ABOVE, None)
    assert made is not None
    args = clip_arguments(table, Terms(), made[0])
    parameters = (ctypes.c_void_p * 1)(ctypes.addressof(args))

    def call(kept: Any = (made, args)) -> None:
        here._launch(place, NORMS[2.0], table, here.norm_blocks, parameters)

    return call


def contest(name: str, sizes: list[int], inner: int, outer: int) -> dict[str, Any]:
    """A clip in place, by the fused kernels, by PyTorch, and by agclip's public function."""
    total, here = sum(sizes), run.room
    itemsize = getattr(torch, run.DTYPES[name]).itemsize
    leaves = [run.of(name, n) for n in sizes]
    parameters = [torch.nn.Parameter(x, requires_grad=True) for x in leaves]
    for p, x in zip(parameters, leaves, strict=True):
        p.grad = x
    bounds: Iterator[float] = iter(())
    clip_ours, clip_theirs = clip_grad_norm_, torch.nn.utils.clip_grad_norm_
    contenders: dict[str, tuple[float, Callable[[], Any]]] = {
        "fused": (3, lambda: here.clip(leaves, None, Terms(), next(bounds))),
        "fused, within": (1, lambda: here.clip(leaves, None, Terms(), ABOVE)),
        "fused, norm": (1, norm_alone(here, leaves)),
        "torch": (3, lambda: clip_theirs(parameters, next(bounds), foreach=True)),
        "torch, within": (1, lambda: clip_theirs(parameters, ABOVE, foreach=True)),
        "agclip": (3, lambda: agclip.clip_by_global_norm_(leaves, next(bounds))),
        "agclip, norm": (1, lambda: agclip.global_norm(leaves)),
        "agclip, drop-in": (3, lambda: clip_ours(parameters, next(bounds))),
        "agclip, rule": (3, lambda: agclip.ClipByGlobalNorm(next(bounds)).update_(leaves, ())),
    }
    if run.device != "cuda":
        contenders = {k: v for k, v in contenders.items() if not k.startswith("agclip")}
    host_us = 100 + 6 * len(sizes)
    found: dict[str, Any] = {}
    for label, (passes, function) in contenders.items():
        for x in leaves:
            x.normal_()
        bounds = falling(name, 0.9 * math.sqrt(total))
        function()
        function()
        called, done = run.host_times(function, inner, outer)
        for x in leaves:
            x.normal_()
        bounds = falling(name, 0.9 * math.sqrt(total))
        on_device = run.event_times(function, inner, outer, host_us)
        found[label] = {
            "device us": round(on_device * 1e6, 1),
            "host us": round(called * 1e6, 1),
            "wall us": round(done * 1e6, 1),
            "share": run.share(passes, total, itemsize, on_device),
        }
    return found


def replayed(name: str, sizes: list[int]) -> dict[str, float]:
    """A clip from a graph, without the host; ten in a graph, and the changes of the bound."""
    total = sum(sizes)
    leaves = [run.of(name, n) for n in sizes]
    bound = torch.tensor(0.9 * math.sqrt(total), device=run.device)
    run.room.clip(leaves, None, Terms(), bound)
    run.wait()
    graphs = []
    for clips in (True, False):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(10):
                bound.mul_(1 - run.STEP[name])
                if clips:
                    run.room.clip(leaves, None, Terms(), bound)
        graph.replay()
        graphs.append(graph)
    for x in leaves:
        x.normal_()
    bound.fill_(0.9 * math.sqrt(total))
    both, changes = (run.event_times(graph.replay, 1, 9) / 10 for graph in graphs)
    return {"us": round((both - changes) * 1e6, 1), "with the change": round(both * 1e6, 1)}


def new_addresses() -> dict[str, float]:
    """What a call costs the host when no table is kept: gradients that are made anew."""
    found = {}
    for count in (20, 300, 1000):
        sets = [[run.of("f32", 100) for _ in range(count)] for _ in range(12)]
        run.wait()
        times = []
        for leaves in sets:
            a = time.perf_counter()
            run.room.clip(leaves, None, Terms(), 1e9)
            times.append(time.perf_counter() - a)
        found[str(count)] = round(statistics.median(times) * 1e6, 1)
    return found


def cupy_times() -> dict[str, float]:
    """What a call costs the host, by the fused kernels on CuPy's arrays."""
    import cupy

    from agclip_backends.cupy.fused import room

    found = {}
    for count in (2, 20, 200, 1000):
        leaves = [cupy.ones(100, dtype=cupy.float32) for _ in range(count)]
        room.clip(leaves, None, Terms(), 1e9)
        cupy.cuda.Device().synchronize()
        a = time.perf_counter()
        for _ in range(50):
            room.clip(leaves, None, Terms(), 1e9)
        found[str(count)] = round((time.perf_counter() - a) / 50 * 1e6, 1)
        cupy.cuda.Device().synchronize()
    return found
