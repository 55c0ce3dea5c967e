"""The norm across ranks, by the table of cases: on threads, on gloo and on MPI."""

import contextlib
import math

import numpy as np
import pytest

import agclip
from ranks.cases import Rank, outcome
from ranks.table import CASES
from ranks.thread_ranks import Together, together


def make(numbers, dtype):
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
        return np.array(numbers, ml_dtypes.bfloat16)
    return np.array(numbers, dtype)


def close(got, wanted):
    """Tell whether plain data is the same: numbers as float32."""
    if isinstance(wanted, (list, tuple)):
        return len(got) == len(wanted) and all(map(close, got, wanted))
    if not isinstance(wanted, float) or isinstance(got, str):
        return got == wanted
    if math.isnan(wanted):
        return math.isnan(got)
    return math.isclose(got, wanted, rel_tol=2e-7)


def on_threads(case, logs=None):
    """Return what every rank gets; with `logs`, a list a rank, the vectors are recorded."""
    rows, columns = ([Together(2) for _ in range(2)] for _ in range(2))

    def program(rank, met):
        i, j = divmod(rank, 2)
        pairs = None
        if case.size == 4:
            pairs = rows[i].communicator(j), columns[j].communicator(i)
        comm = met.communicator(rank, None if logs is None else logs[rank])
        return outcome(case.program, Rank(rank, case.size, comm, make, pairs))

    return together(case.size, program)


def require(name, found):
    case = CASES[name]
    for rank in range(case.size):
        assert close(found[rank], case.of(rank)), f"rank {rank}: {found[rank]}, {case.of(rank)}"


@pytest.mark.parametrize("name", CASES)
def test_threads_get_what_one_process_would(name):
    require(name, on_threads(CASES[name]))


@pytest.mark.parametrize("name", CASES)
def test_ranks_of_gloo_get_what_one_process_would(name, gloo_results):
    require(name, [one.get(name) for one in gloo_results])


@pytest.mark.parametrize("name", CASES)
def test_ranks_of_mpi_get_what_one_process_would(name, mpi_results):
    require(name, [one.get(name) for one in mpi_results])


VECTORS = {
    "default": ({}, [("sum", 8)]),
    "order 1": ({"ord": 1}, [("sum", 8)]),
    "order 3": ({"ord": 3}, [("max", 6), ("sum", 1)]),
    "order inf": ({"ord": "inf"}, [("max", 7)]),
    "reproducible": ({"reproducible": True}, [("max", 6), ("sum", 7)]),
    "reproducible, order 1": ({"ord": 1, "reproducible": True}, [("max", 6), ("sum", 7)]),
    "a given norm": ({"use_norm": 2.0}, []),
    "an infinite given norm": ({"use_norm": math.inf}, []),
}


@pytest.mark.parametrize("leaves", [0, 1, 100])
@pytest.mark.parametrize("name", VECTORS)
def test_what_is_sent_follows_from_the_plan_alone(name, leaves):
    options, wanted = VECTORS[name]
    log = []

    def alone(vector, op):
        log.append((op, len(vector)))
        return vector

    for dtype in ("float32", "float64", "complex64"):
        if dtype == "complex64" and options.get("reproducible") and "ord" in options:
            continue  # refused, whoever asks
        for size in (1.0, 1e-30, math.nan):
            log.clear()
            tree = [np.full(3, size, dtype) for _ in range(leaves)]
            warned = pytest.warns(UserWarning, match="holds no array")
            with contextlib.nullcontext() if leaves or wanted else warned:
                agclip.clip_by_global_norm(tree, 1.0, comm=alone, **options)
            assert log == wanted
