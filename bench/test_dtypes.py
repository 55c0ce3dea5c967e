"""clip_by_global_norm in bfloat16 and float64, with the peers that are compared in float32."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from bench import builds, checks
from bench.contests import ROOF, Contender, Contest, Match, enter
from bench.test_global_norm import FUNCTIONAL, IN_PLACE
from bench.workloads import RESNET50, SMALL, in_dtype

DTYPES = [in_dtype(w, dtype) for dtype in ("bfloat16", "float64") for w in (SMALL, RESNET50)]
CONTENDERS = (*IN_PLACE, *(c for c in FUNCTIONAL if c.compiled))

CLIPS = Contest(
    "dtypes",
    "clips",
    "clip_by_global_norm_ (in jit: not in place), norm beyond the bound",
    (*CONTENDERS, Contender(ROOF, builds.passes(builds.read, builds.scale_))),
    lambda gradients: 0.5 * checks.norm(gradients),
    checks.norm_is_bound,
)
WITHIN = Contest(
    "dtypes",
    "within",
    "clip_by_global_norm_, norm within the bound",
    (*IN_PLACE, Contender(ROOF, builds.passes(builds.read))),
    lambda gradients: 2.0 * checks.norm(gradients),
    checks.unchanged,
    clips=False,
)


@enter([CLIPS], DTYPES)
def test_clips(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))


@enter([WITHIN], DTYPES)
def test_within(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))
