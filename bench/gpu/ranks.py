"""Norms over the ranks of one GPU: NCCL's group of a single rank, and DTensors on its mesh.

    PYTHONPATH=$PWD:$PWD/backends python3 -m bench.gpu.ranks
    PYTHONPATH=$PWD:$PWD/backends python3 -m bench.gpu.ranks --device cpu      gloo: a rehearsal

A check is a line of JSON: its name, whether it passed, and what was found. The exit status is 1 if
one fails. With a single rank nothing is added up, but everything else runs: where vectors are made
and read, what the device is waited for, and what a CUDA graph records.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from bench.gpu import rank_numbers, rank_waits
from bench.gpu.rank_leaves import on_cuda, options

CHECKS = {
    function.__name__: function
    for function in (
        rank_numbers.same_as_alone,
        rank_numbers.vectors,
        rank_numbers.numpy_arrays,
        rank_numbers.nothing_held,
        rank_numbers.beside_gloo,
        rank_numbers.what_is_no_number,
        rank_numbers.fsdp2,
        rank_numbers.rules,
        rank_waits.waited_for,
        rank_waits.no_synchronisation,
        rank_waits.compiled,
        rank_waits.times,
        rank_waits.captured,  # last: what fails while it is recorded may leave the device unusable
    )
}


def checked(name: str, function: Callable[[], Any]) -> bool:
    """Run one check, and print what it finds or how it fails."""
    start = time.perf_counter()
    line: dict[str, Any] = {"check": name, "ok": True}
    try:
        line["found"] = function()
    except Exception as error:  # noqa: BLE001 - the others go on
        line |= {"ok": False, "error": f"{type(error).__name__}: {error}"[:1500]}
        if not isinstance(error, AssertionError):
            line["where"] = traceback.format_exc(limit=-5)[-1500:]
    line["seconds"] = round(time.perf_counter() - start, 2)
    print(json.dumps(line, default=str), flush=True)
    return bool(line["ok"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.ranks", description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--leaves", type=int, default=1000, help="of the times")
    parser.add_argument("--only", default="", help="words in the names of checks")
    parser.parse_args(namespace=options)
    engine = "nccl" if on_cuda() else "gloo"
    if on_cuda():
        torch.cuda.set_device(0)
    dist.init_process_group(engine, store=dist.HashStore(), rank=0, world_size=1)
    # The first collective of a group makes its communicator, which waits.
    dist.all_reduce(torch.zeros(1, device=options.device))
    name = torch.cuda.get_device_name() if on_cuda() else "cpu"
    versions = {"torch": torch.__version__, "engine": engine, "device": name}
    print(json.dumps(versions), flush=True)
    words = options.only.split(",")
    passed = [
        checked(check, function)
        for check, function in CHECKS.items()
        if any(word in check for word in words)
    ]
    dist.destroy_process_group()
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
