"""What a norm over ranks costs: messages, bytes and time, on gloo's ranks of this host.

    PYTHONPATH=$PWD:$PWD/backends python -m bench.ranks

Ranks are forked. In a round each contender has one turn, in the next round in reverse order. A turn
is a few calls on all ranks, which meet before each; a call takes what the slowest rank does, a turn
what its fastest call does. A time is that of the fastest turn: a neighbour can only add to it. A
ratio is the median of quotients within a round. `--publish` keeps all in `results/ranks.json`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import agclip
from bench.rank_counts import Counted

LEAVES = (1, 100, 1000)
ELEMENTS = 1024
"""Of each leaf, on all ranks together."""
BURST = 4
FLOOR = "an all-reduce of 64 bytes"
LARGE = "an all-reduce of 1 MiB"
TORCH = "torch, DTensors"
COMM = "agclip, comm="
RESULTS = Path(__file__).parent / "results" / "ranks.json"


def contenders(leaves: int) -> dict[str, Callable[[], Any]]:
    """Return calls in place, none of which changes a number: all are within the bound."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    wholes = [torch.randn(ELEMENTS) for _ in range(leaves)]
    placed = [distribute_tensor(x, mesh, [Shard(0)]) for x in wholes]
    here = [x.to_local().clone() for x in placed]
    parameters = [torch.nn.Parameter(torch.zeros_like(x)) for x in placed]
    for p, x in zip(parameters, placed, strict=True):
        p.grad = x.clone()
    group, bound = dist.group.WORLD, 1e9
    vector = torch.ones(8, dtype=torch.float64)
    large = torch.ones(1 << 18)
    return {
        FLOOR: lambda: dist.all_reduce(vector.fill_(1.0)),
        LARGE: lambda: dist.all_reduce(large.fill_(1.0)),
        "agclip, this rank alone": lambda: agclip.clip_by_global_norm_(here, bound),
        COMM: lambda: agclip.clip_by_global_norm_(here, bound, comm=group),
        "agclip, comm=, reproducible": lambda: agclip.clip_by_global_norm_(
            here, bound, comm=group, reproducible=True
        ),
        "agclip, DTensors": lambda: agclip.clip_by_global_norm_(placed, bound),
        TORCH: lambda: torch.nn.utils.clip_grad_norm_(parameters, bound),
    }


def slowest(call: Callable[[], Any]) -> float:
    """Return how long a call takes the slowest rank."""
    dist.barrier()
    start = time.perf_counter()
    call()
    seconds = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
    dist.all_reduce(seconds, op=dist.ReduceOp.MAX)
    return float(seconds)


def timed(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    gc.disable()
    for turn in range(rounds + 1):
        for name in order:
            burst = [slowest(calls[name]) for _ in range(BURST)]
            if turn:
                found[name].append(min(burst))
        order.reverse()
        gc.collect()
    return found


def rows(leaves: int, rounds: int) -> list[dict[str, Any]]:
    """Return what each contender sends and takes, as this rank sees it."""
    torch.manual_seed(0)
    calls = contenders(leaves)
    sent = {}
    for name, call in calls.items():
        call()
        with Counted() as counted:
            call()
        sent[name] = (counted.messages, counted.bytes)
    times = timed(calls, rounds)
    return [
        {
            "ranks": dist.get_world_size(),
            "leaves": leaves,
            "name": name,
            "messages": sent[name][0],
            "bytes": sent[name][1],
            "us": round(min(times[name]) * 1e6, 1),
            "median us": round(statistics.median(times[name]) * 1e6, 1),
            "to torch": round(_ratio(times[name], times[TORCH]), 3),
            "to comm": round(_ratio(times[name], times[COMM]), 3),
        }
        for name in calls
    ]


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def one_rank(rank: int, size: int, folder: str, rounds: int) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store{size}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    found = [row for leaves in LEAVES for row in rows(leaves, rounds)]
    if rank == 0:
        Path(folder, f"{size}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def forked(size: int, folder: str, rounds: int) -> list[dict[str, Any]]:
    """Return the rows of so many ranks, each a process of its own."""
    children = []
    for rank in range(size):
        child = os.fork()
        if not child:
            code = 1
            try:
                one_rank(rank, size, folder, rounds)
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        sys.exit(f"ranks ended with {codes}")
    found: list[dict[str, Any]] = json.loads(Path(folder, f"{size}.json").read_text())
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Return the rows as a table, a line for each contender and number of leaves."""
    sizes = sorted({row["ranks"] for row in found})
    head = [f"{n} ranks" if n > 1 else "1 rank" for n in sizes]
    lines = [
        "| leaves | | messages | bytes | " + " | ".join(f"{x}, µs" for x in head) + " | ÷ torch |",
        "| ---: | --- | ---: | ---: |" + " ---: |" * (len(sizes) + 1),
    ]
    for leaves in LEAVES:
        for name in dict.fromkeys(row["name"] for row in found):
            mine = [row for row in found if (row["leaves"], row["name"]) == (leaves, name)]
            last = mine[-1]
            times = " | ".join(f"{row['us']:.0f}" for row in mine)
            lines.append(
                f"| {leaves} | {name} | {last['messages']} | {last['bytes']} | {times} | "
                f"{last['to torch']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ranks", description=__doc__)
    parser.add_argument("--ranks", type=int, default=4, help="the most ranks")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for size in range(1, options.ranks + 1):
            found += forked(size, folder, options.rounds)
    print(table(found))
    for size in range(1, options.ranks + 1):
        exact = [r["to comm"] for r in found if r["ranks"] == size and "repro" in r["name"]]
        print(f"reproducible ÷ comm=, {size} ranks, by leaves: {exact}")
    if options.publish:
        versions = {"torch": torch.__version__, "agclip": agclip.__version__}
        kept = {"versions": versions, "cores": os.cpu_count(), "rows": found}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
