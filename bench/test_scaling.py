"""The cost of a clip in place against the number of elements, and against that of leaves."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from bench import builds, checks
from bench.contests import ROOF, Contender, Contest, Match, enter
from bench.test_global_norm import FUNCTIONAL, IN_PLACE
from bench.workloads import COUNTS, SIZES

CONTENDERS = (
    *(c for c in IN_PLACE if not c.name.startswith("smartclip")),
    *(c for c in FUNCTIONAL if c.compiled and not c.name.startswith("keras")),
    Contender(ROOF, builds.passes(builds.read, builds.scale_)),
)


def _against(axis: str, title: str) -> Contest:
    return Contest(
        "scaling",
        axis,
        f"{title}, by number of {axis} (in jit: not in place)",
        CONTENDERS,
        lambda gradients: 0.5 * checks.norm(gradients),
        checks.norm_is_bound,
        axis=axis,
    )


ELEMENTS = _against("elements", "one leaf")
LEAVES = _against("leaves", "leaves of one element")


@enter([ELEMENTS], SIZES)
def test_elements(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))


@enter([LEAVES], COUNTS)
def test_leaves(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))
