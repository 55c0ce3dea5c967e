"""Checks of what waits for the device where norms go over ranks, and what graphs record; times."""

from __future__ import annotations

import collections
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import agclip
from bench.gpu.rank_leaves import (
    OPTIONS,
    differing,
    drawn,
    group,
    on_cuda,
    options,
    ratio,
    tree,
    wait,
)


@contextmanager
def waits() -> Iterator[collections.Counter[str]]:
    """Count what makes the host wait for the device."""
    found: collections.Counter[str] = collections.Counter()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if on_cuda():
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            if on_cuda():
                torch.cuda.set_sync_debug_mode("default")
    for one in said:
        if "synchronizing" in str(one.message):
            found[f"{one.filename.rpartition('/')[2]}:{one.lineno}"] += 1


def calls() -> dict[str, Callable[[], Any]]:
    """Calls over ranks that are compared by their waits."""
    mesh = init_device_mesh(options.device, (1,))
    x = tree(["float32", "bfloat16"])
    placed = [distribute_tensor(leaf, mesh, [Shard(0)]) for leaf in tree(["float32"])]
    rule = agclip.ZClip(warmup=2, comm=group())
    state = rule.init(x)
    made: dict[str, Callable[[], Any]] = {
        name: lambda more=more: agclip.clip_by_global_norm(x, 1.25, comm=group(), **more)
        for name, more in OPTIONS.items()
    }
    made["in place"] = lambda: agclip.clip_by_global_norm_(x, 1.125, comm=group())
    made["DTensors"] = lambda: agclip.clip_by_global_norm(placed, 1.25)
    made["DTensors and comm"] = lambda: agclip.clip_by_global_norm(placed, 1.25, comm=group())
    made["ZClip"] = lambda: rule.update(x, state)
    return made


def waited_for() -> Any:
    """The device is waited for once for each communicator and plan, and then never."""
    found = {}
    for name, call in calls().items():
        with waits() as first:
            call()
        wait()
        counts = []
        for _ in range(3):
            with waits() as later:
                call()
            counts.append(sum(later.values()))
            assert not later, (name, dict(first), dict(later))
        found[name] = {"first": dict(first), "later": counts}
    return found


def no_synchronisation() -> Any:
    """What has been called once does not wait: the debug mode would raise an error."""
    made = calls()
    for call in made.values():
        call()
    wait()
    if on_cuda():
        torch.cuda.set_sync_debug_mode("error")
    failed = {}
    try:
        for name, call in made.items():
            try:
                call()
            except RuntimeError as error:
                failed[name] = str(error)[:200]
    finally:
        if on_cuda():
            torch.cuda.set_sync_debug_mode("default")
    assert not failed, failed
    return len(made)


def captured() -> Any:
    """A CUDA graph records a clip over ranks, and replays it on other gradients."""
    if not on_cuda():
        return "there are no graphs on the CPU"
    found = {}
    for name, more in OPTIONS.items():
        static = tree(["float32"])
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                agclip.clip_by_global_norm_(static, 1.0, comm=group(), **more)
        torch.cuda.current_stream().wait_stream(side)
        wait()
        graph = torch.cuda.CUDAGraph()
        try:
            # NCCL's watchdog queries events meanwhile, in a thread of its own.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                _, norm = agclip.clip_by_global_norm_(static, 1.0, comm=group(), **more)
        except Exception as error:  # noqa: BLE001 - the other orders are still tried
            found[name] = f"{type(error).__name__}: {str(error)[:200]}"
            continue
        for turn in range(3):
            fresh = [x * 10.0**turn for x in tree(["float32"])]
            for x, y in zip(static, fresh, strict=True):
                x.copy_(y)
            graph.replay()
            wait()
            wanted, value = agclip.clip_by_global_norm(fresh, 1.0, comm=group(), **more)
            assert differing(static, wanted) == 0, (name, turn)
            assert float(norm) == float(value), (name, turn, float(norm), float(value))
        found[name] = "replayed"
    assert found["order 2"] == "replayed", found
    return found


def compiled() -> Any:
    """torch.compile makes one graph of a clip over ranks."""
    x = tree(["float32", "bfloat16"])

    def clip(grads: Any) -> Any:
        return agclip.clip_by_global_norm(grads, 1.0, comm=group())

    torch._dynamo.reset()
    got, norm = torch.compile(clip, fullgraph=True, backend="eager")(x)
    wanted, value = clip(x)
    assert ratio(norm, value) < 2e-7
    return {"differing bytes": differing(got, wanted)}


def times() -> Any:
    """Microseconds of the host for a call, and until the device is done: a turn each in a round."""
    mesh = init_device_mesh(options.device, (1,))
    parameters = [torch.nn.Parameter(drawn(100, "float32", i)) for i in range(options.leaves)]
    grads = [p.detach().clone() for p in parameters]
    placed = [distribute_tensor(x, mesh, [Shard(0)]) for x in grads]
    cut = [torch.nn.Parameter(torch.zeros_like(x)) for x in placed]
    for p, x in zip(cut, placed, strict=True):
        p.grad = x
    contenders: dict[str, Callable[[], Any]] = {
        "agclip": lambda: agclip.clip_by_global_norm_(grads, 1e9),
        "agclip, comm": lambda: agclip.clip_by_global_norm_(grads, 1e9, comm=group()),
        "agclip, comm, reproducible": lambda: agclip.clip_by_global_norm_(
            grads, 1e9, comm=group(), reproducible=True
        ),
        "agclip, DTensors": lambda: agclip.clip_by_global_norm_(placed, 1e9),
        "torch, DTensors": lambda: torch.nn.utils.clip_grad_norm_(cut, 1e9),
    }
    one = torch.zeros(8, dtype=torch.float64, device=options.device)
    contenders["an all-reduce of 64 bytes"] = lambda: dist.all_reduce(one)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(11):
        for name, call in contenders.items():
            wait()
            start = time.perf_counter()
            call()
            called = time.perf_counter() - start
            wait()
            if turn:
                found[name].append((called, time.perf_counter() - start))
    return {
        name: {
            "host us": round(statistics.median(a for a, _ in rows) * 1e6, 1),
            "done us": round(statistics.median(b for _, b in rows) * 1e6, 1),
        }
        for name, rows in found.items()
    }
