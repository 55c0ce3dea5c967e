"""What a call costs before any arithmetic: taking the tree apart, finding its backend, checking it.

With the norm given and within the bound, `clip_by_global_norm` does all that and nothing else. The
reference is JAX's compiled `tree.flatten` and `unflatten` on the same tree, which look up no
backend and check nothing.
"""

from __future__ import annotations

from typing import Any

import jax
from pytest_benchmark.fixture import BenchmarkFixture

import agclip
from bench import builds, checks
from bench.arrays import layers, numpy_copies, torch_copies
from bench.contests import Contender, Contest, Match, enter
from bench.workloads import COUNTS, Gradients


def _numpy_layers(gradients: Gradients) -> Any:
    return layers(numpy_copies(gradients))


def _torch_layers(gradients: Gradients) -> Any:
    return layers(torch_copies(gradients))


def _round_trip(tree: Any, _: float) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, leaves)


def _dispatch(tree: Any, bound: float) -> Any:
    return agclip.clip_by_global_norm(tree, bound, use_norm=0.5 * bound)[0]


LIST = Contest(
    "dispatch",
    "list",
    "dispatch, a list of leaves of one entry",
    (
        Contender("jax.tree", builds.returning(numpy_copies, _round_trip)),
        Contender("agclip-numpy", builds.returning(numpy_copies, _dispatch)),
        Contender("agclip-torch", builds.returning(torch_copies, _dispatch)),
    ),
    checks.norm,
    checks.unchanged,
    clips=False,
    axis="leaves",
)
LAYERS = Contest(
    "dispatch",
    "layers",
    "dispatch, dicts of two leaves of one entry in a dict",
    (
        Contender("jax.tree", builds.returning(_numpy_layers, _round_trip)),
        Contender("agclip-numpy", builds.returning(_numpy_layers, _dispatch)),
        Contender("agclip-torch", builds.returning(_torch_layers, _dispatch)),
    ),
    checks.norm,
    checks.unchanged,
    clips=False,
    axis="leaves",
)


@enter([LIST, LAYERS], COUNTS)
def test_dispatch(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))
