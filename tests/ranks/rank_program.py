"""The cases on ranks that are processes of an engine: it prints what every rank gets, as JSON.

    mpiexec -n 4 python rank_program.py mpi ASKED        each process is a rank
    python rank_program.py gloo ASKED STORE              four ranks are forked from one process

ASKED is a file in JSON: whether to run the table of cases, and the names of the cases of rules.
PyTorch is imported once for all ranks: it takes longer than all cases together.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

RANKS = 4
SECONDS = 60


def found_by(rank, groups, pairs, make, asked):
    """Return the results of all cases for which there is a group of as many ranks."""
    from ranks.cases import Rank, outcome
    from ranks.rule_cases import RULE_CASES
    from ranks.table import CASES

    chosen = {name: RULE_CASES[name] for name in asked["rules"]}
    if asked["table"]:
        chosen |= CASES
    results = {}
    for name, case in chosen.items():
        if rank < case.size:
            comm = groups[case.size]
            of_case = Rank(rank, case.size, comm, make, pairs if case.size == RANKS else None)
            results[name] = outcome(case.program, of_case)
    return results


def mpi(asked):
    """Run as one of the processes of mpiexec, on NumPy's arrays."""
    import numpy as np
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    rank = world.Get_rank()
    groups = {size: world.Split(int(rank < size), rank) for size in (2, 3, RANKS)}
    pairs = world.Split(rank // 2, rank), world.Split(rank % 2, rank)

    def make(numbers, dtype):
        if dtype == "bfloat16":
            import ml_dtypes

            return np.array(numbers, ml_dtypes.bfloat16)
        return np.array(numbers, dtype)

    found = world.gather(found_by(rank, groups, pairs, make, asked))
    if rank == 0:
        sys.stdout.write(json.dumps(found))


def gloo(asked, file):
    """Fork the ranks of a process group, on PyTorch's tensors."""
    import torch.distributed  # noqa: F401 - once for all

    from ranks import fsdp1_cases, torch_cases  # noqa: F401

    children = []
    for rank in range(RANKS):
        child = os.fork()
        if not child:
            code = 1
            try:
                _gloo_rank(rank, file, asked)
                code = 0
            except BaseException:  # noqa: BLE001 - it must not come back to the parent's code
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        sys.exit(f"ranks ended with {codes}")
    found = [json.loads(Path(f"{file}.{rank}").read_text()) for rank in range(RANKS)]
    sys.stdout.write(json.dumps(found))


def _gloo_rank(rank, file, asked):
    import torch
    import torch.distributed as dist

    from ranks import fsdp1_cases, torch_cases

    torch.set_num_threads(1)
    limit = dt.timedelta(seconds=SECONDS)
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=RANKS, timeout=limit
    )
    groups = {size: dist.new_group(range(size)) for size in (2, 3)}
    groups[RANKS] = dist.group.WORLD
    rows = [dist.new_group(ranks) for ranks in ([0, 1], [2, 3])]
    columns = [dist.new_group(ranks) for ranks in ([0, 2], [1, 3])]
    pairs = rows[rank // 2], columns[rank % 2]

    def make(numbers, dtype):
        return torch.tensor(numbers, dtype=getattr(torch, dtype))

    found = found_by(rank, groups, pairs, make, asked)
    if asked["table"]:
        found |= torch_cases.found_by(rank, groups, pairs) | fsdp1_cases.found_by(rank)
    Path(f"{file}.{rank}").write_text(json.dumps(found))
    # Without a barrier the process may be ended while another is still reading (torch 2.13).
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    engine, given, *store = sys.argv[1:]
    {"mpi": mpi, "gloo": gloo}[engine](json.loads(Path(given).read_text()), *store)
