"""What reproducible=True costs: each call against the same call without it, in the same run.

Leaves up to float32 on the host have nothing to pay: there the rounding test is part of every call.
It answers from the plain sum unless the bound is so close to the norm that only the reproducible
norm can tell on which side it is, which is measured too. float64 leaves, norms along axes and
traced values always need the reproducible norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

import agclip
from bench import builds, checks
from bench.arrays import numpy_copies, torch_copies
from bench.builds import Copies, Function, Pass
from bench.contests import ROOF, Build, Contender, Contest, Leaves, Match, enter
from bench.workloads import FEW_LEAVES, PER_LEAF, SMALL, Gradients, Workload, in_dtype

DOUBLE = [in_dtype(workload, "float64") for workload in PER_LEAF]
MATRICES = Workload("matrices", "8 × 512×512", ((512, 512),) * 8)

_UNDECIDED = 1 + 2.0**-42
"""Above the norm by more than the plain sum is off, and by less than what it is proven to be."""


def _default_(grads: Any, bound: float) -> None:
    agclip.clip_by_global_norm_(grads, bound)


def _reproducible_(grads: Any, bound: float) -> None:
    agclip.clip_by_global_norm_(grads, bound, reproducible=True)


def _default(grads: Any, bound: float) -> Any:
    return agclip.clip_by_global_norm(grads, bound)[0]


def _reproducible(grads: Any, bound: float) -> Any:
    return agclip.clip_by_global_norm(grads, bound, reproducible=True)[0]


def _decided(grads: Any, bound: float) -> None:
    agclip.clip_by_global_norm_(grads, 2 * bound, reproducible=True)


def _undecided(grads: Any, bound: float) -> None:
    agclip.clip_by_global_norm_(grads, _UNDECIDED * bound, reproducible=True)


def _default_rows(grads: Any, bound: float) -> Any:
    return agclip.clip_by_norm(grads, bound, axes=1)


def _reproducible_rows(grads: Any, bound: float) -> Any:
    return agclip.clip_by_norm(grads, bound, axes=1, reproducible=True)


def _row_norms(leaves: Leaves) -> list[float]:
    return [float(norm) for leaf in leaves for norm in np.linalg.norm(np.float64(leaf), axis=1)]


def _rows_are_bound(leaves: Leaves, _: Gradients, bound: float) -> bool:
    return bool(np.allclose(_row_norms(leaves), bound, rtol=1e-5))


def _half_norm(gradients: Gradients) -> float:
    return 0.5 * checks.norm(gradients)


def _pair(
    library: str, first: Build, second: Build, kind: str = "reproducible"
) -> tuple[Contender, Contender]:
    """Return two contenders of one library, the second compared with the first."""
    name = f"agclip-{library}"
    return Contender(name, first), Contender(f"agclip-{kind}-{library}", second, against=(name,))


def _hosts(
    build: Callable[[Copies, Function], Build], first: Function, second: Function, *kind: str
) -> Iterator[Contender]:
    """Yield the pair of each library whose values can be read for nothing."""
    for library, copies in (("numpy", numpy_copies), ("torch", torch_copies)):
        yield from _pair(library, build(copies, first), build(copies, second), *kind)


def _roof(*functions: Pass) -> Contender:
    return Contender(ROOF, builds.passes(*functions))


FLOAT32 = Contest(
    "reproducible",
    "float32",
    "reproducible=True, float32, in place",
    (*_hosts(builds.overwriting, _default_, _reproducible_), _roof(builds.read, builds.scale_)),
    _half_norm,
    checks.norm_is_bound,
)
FLOAT64 = replace(FLOAT32, name="float64", title="reproducible=True, float64, in place")
UNDECIDED = Contest(
    "reproducible",
    "undecided",
    "the bound at the norm: the rounding test cannot tell",
    (*_hosts(builds.overwriting, _decided, _undecided, "undecided"), _roof(builds.read)),
    checks.norm,
    checks.unchanged,
    clips=False,
)
TRACED = Contest(
    "reproducible",
    "traced",
    "reproducible=True, float32, JAX",
    (
        *_pair("jax-jit", builds.compiled(_default), builds.compiled(_reproducible)),
        *_pair("jax", builds.returning_jax(_default), builds.returning_jax(_reproducible)),
        _roof(builds.read, builds.scale),
    ),
    _half_norm,
    checks.norm_is_bound,
)
ROWS = Contest(
    "reproducible",
    "rows",
    "reproducible=True, float32, clip_by_norm along axis 1",
    (
        *_hosts(builds.returning, _default_rows, _reproducible_rows),
        *_pair("jax-jit", builds.compiled(_default_rows), builds.compiled(_reproducible_rows)),
        _roof(builds.read, builds.scale),
    ),
    lambda gradients: 0.5 * min(_row_norms(gradients)),
    _rows_are_bound,
)


@enter([FLOAT32], PER_LEAF)
def test_float32(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))


@enter([FLOAT64], DOUBLE)
def test_float64(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))


@enter([UNDECIDED], FEW_LEAVES)
def test_undecided(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))


@enter([TRACED], FEW_LEAVES)
def test_traced(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))


@enter([ROWS], (SMALL, MATRICES))
def test_rows(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))
