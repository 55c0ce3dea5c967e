"""clip_by_value and clip_by_norm against what each library has, or the loop one would write."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import agclip
from bench import builds, checks
from bench.arrays import numpy_copies, torch_copies
from bench.builds import Function
from bench.contests import ROOF, Contender, Contest, Leaves, Match, enter
from bench.workloads import FEW_LEAVES, PER_LEAF, Gradients


def _numpy_clip_(grads: Gradients, bound: float) -> None:
    for grad in grads:
        np.clip(grad, -bound, bound, out=grad)


def _numpy_clip(grads: Gradients, bound: float) -> Leaves:
    return [np.clip(grad, -bound, bound) for grad in grads]


def _torch_clamp(grads: list[torch.Tensor], bound: float) -> Leaves:
    return [torch.clamp(grad, -bound, bound) for grad in grads]


def _jax_clip(grads: Any, bound: float) -> Leaves:
    return [jnp.clip(grad, -bound, bound) for grad in grads]


def _our_value_(grads: Any, bound: float) -> None:
    agclip.clip_by_value_(grads, -bound, bound)


def _our_value(grads: Any, bound: float) -> Any:
    return agclip.clip_by_value(grads, -bound, bound)


def _clamp_(flat: torch.Tensor, bound: float) -> torch.Tensor:
    return flat.clamp_(-bound, bound)


def _clamp(flat: torch.Tensor, bound: float) -> torch.Tensor:
    return flat.clamp(-bound, bound)


def _numpy_norm_(grads: Gradients, bound: float) -> None:
    for grad in grads:
        norm = np.sqrt((grad * grad).sum())
        if norm > bound:
            np.multiply(grad, bound / norm, out=grad)


def _numpy_norm(grads: Gradients, bound: float) -> Leaves:
    norms = [np.sqrt((grad * grad).sum()) for grad in grads]
    return [g * (bound / n) if n > bound else g for g, n in zip(grads, norms, strict=True)]


def _torch_norm_(grads: list[torch.Tensor], bound: float) -> None:
    for grad in grads:
        grad.mul_(torch.clamp(bound / torch.linalg.vector_norm(grad), max=1.0))


def _torch_norm(grads: list[torch.Tensor], bound: float) -> Leaves:
    norms = [torch.linalg.vector_norm(grad) for grad in grads]
    return [g * torch.clamp(bound / n, max=1.0) for g, n in zip(grads, norms, strict=True)]


def _jax_norm(grads: Any, bound: float) -> Leaves:
    norms = [jnp.linalg.norm(grad.ravel()) for grad in grads]
    return [g * jnp.minimum(bound / n, 1.0) for g, n in zip(grads, norms, strict=True)]


def _in_place(
    reference: Contender, numpy: Function, ours: Function, *roof: builds.Pass
) -> tuple[Contender, ...]:
    return (
        reference,
        Contender("agclip-torch", builds.overwriting(torch_copies, ours), against=(ROOF,)),
        Contender("numpy-loop", builds.overwriting(numpy_copies, numpy)),
        Contender(
            "agclip-numpy", builds.overwriting(numpy_copies, ours), against=("numpy-loop", ROOF)
        ),
        Contender(ROOF, builds.passes(*roof)),
    )


def _functional(
    torch_loop: Function, numpy: Function, jax: Function, ours: Function, *roof: builds.Pass
) -> tuple[Contender, ...]:
    return (
        Contender("torch-loop", builds.returning(torch_copies, torch_loop)),
        Contender("agclip-torch", builds.returning(torch_copies, ours), against=(ROOF,)),
        Contender("numpy-loop", builds.returning(numpy_copies, numpy)),
        Contender(
            "agclip-numpy", builds.returning(numpy_copies, ours), against=("numpy-loop", ROOF)
        ),
        Contender("jax-loop", builds.returning_jax(jax)),
        Contender("agclip-jax", builds.returning_jax(ours), against=("jax-loop",)),
        Contender("jax-loop-jit", builds.compiled(jax)),
        Contender("agclip-jax-jit", builds.compiled(ours), against=("jax-loop-jit",)),
        Contender(ROOF, builds.passes(*roof)),
    )


def _value_bound(_: Gradients) -> float:
    return 1.0  # a third of normally distributed entries lie beyond


def _norm_bound(gradients: Gradients) -> float:
    return 0.5 * min(float(np.linalg.norm(grad)) for grad in gradients)


TORCH_VALUE = Contender("torch", builds.overwriting_grads(torch.nn.utils.clip_grad_value_))
VALUE_ = Contest(
    "per_leaf",
    "value-in_place",
    "clip_by_value_",
    _in_place(TORCH_VALUE, _numpy_clip_, _our_value_, _clamp_),
    _value_bound,
    checks.largest_is_bound,
)
NORM_ = Contest(
    "per_leaf",
    "norm-in_place",
    "clip_by_norm_, every leaf beyond the bound",
    _in_place(
        Contender("torch-loop", builds.overwriting(torch_copies, _torch_norm_)),
        _numpy_norm_,
        agclip.clip_by_norm_,
        builds.read,
        builds.scale_,
    ),
    _norm_bound,
    checks.norms_are_bound,
)
VALUE = Contest(
    "per_leaf",
    "value",
    "clip_by_value",
    _functional(_torch_clamp, _numpy_clip, _jax_clip, _our_value, _clamp),
    _value_bound,
    checks.largest_is_bound,
)
NORM = Contest(
    "per_leaf",
    "norm",
    "clip_by_norm, every leaf beyond the bound",
    _functional(
        _torch_norm, _numpy_norm, _jax_norm, agclip.clip_by_norm, builds.read, builds.scale
    ),
    _norm_bound,
    checks.norms_are_bound,
)


@enter([VALUE_], PER_LEAF)
def test_value_in_place(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))


@enter([NORM_], PER_LEAF)
def test_norm_in_place(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))


@enter([VALUE, NORM], FEW_LEAVES)
def test_functional(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))
