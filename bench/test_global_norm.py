"""clip_by_global_norm against what each library has: in place and not, clipping and not."""

from __future__ import annotations

from typing import Any

import numpy as np
import optax
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import agclip
from agclip.integrations import torch as drop_in
from bench import builds, checks, peers
from bench.arrays import numpy_copies, torch_copies
from bench.contests import ROOF, Build, Contender, Contest, Leaves, Match, enter
from bench.workloads import MODELS, RESNET50, Gradients


def _torch_functional(grads: list[torch.Tensor], bound: float) -> Leaves:
    norm = torch.nn.utils.get_total_norm(grads)
    return list(torch._foreach_mul(grads, torch.clamp(bound / (norm + 1e-6), max=1.0)))


def _numpy_norm(grads: Gradients) -> Any:
    wide = np.promote_types(grads[0].dtype, np.float32)  # a sum in bfloat16 soon stands still
    return np.sqrt(sum((grad * grad).sum(dtype=wide) for grad in grads))


def _numpy_loop_(grads: Gradients, bound: float) -> None:
    norm = _numpy_norm(grads)
    if norm > bound:
        for grad in grads:
            np.multiply(grad, bound / norm, out=grad)


def _numpy_loop(grads: Gradients, bound: float) -> Leaves:
    norm = _numpy_norm(grads)
    return [grad * (bound / norm) for grad in grads] if norm > bound else grads


def _optax(grads: Any, bound: float) -> Any:
    return optax.clip_by_global_norm(bound).update(grads, optax.EmptyState())[0]


def _agclip(grads: Any, bound: float) -> Any:
    return agclip.clip_by_global_norm(grads, bound)[0]


_OURS_ = agclip.clip_by_global_norm_
_TORCH = Contender("torch", builds.overwriting_grads(torch.nn.utils.clip_grad_norm_))
_DROP_IN = Contender(
    "agclip-torch-drop-in", builds.overwriting_grads(drop_in.clip_grad_norm_), (ROOF,)
)
_OURS_TORCH_ = Contender("agclip-torch", builds.overwriting(torch_copies, _OURS_), (ROOF,))
_OURS_NUMPY_ = Contender(
    "agclip-numpy", builds.overwriting(numpy_copies, _OURS_), ("numpy-loop", ROOF)
)
_OURS_TORCH = Contender(
    "agclip-torch", builds.returning(torch_copies, _agclip), ("torch-functional", ROOF)
)
_OURS_NUMPY = Contender(
    "agclip-numpy", builds.returning(numpy_copies, _agclip), ("numpy-loop", ROOF)
)
IN_PLACE = (
    _TORCH,
    *peers.smartclip_torch(),
    _OURS_TORCH_,
    *peers.plain(_OURS_TORCH_),
    _DROP_IN,
    Contender("numpy-loop", builds.overwriting(numpy_copies, _numpy_loop_)),
    _OURS_NUMPY_,
    *peers.plain(_OURS_NUMPY_),
)
FUNCTIONAL = (
    _TORCH,
    Contender("torch-functional", builds.returning(torch_copies, _torch_functional)),
    _OURS_TORCH,
    *peers.plain(_OURS_TORCH),
    Contender("numpy-loop", builds.returning(numpy_copies, _numpy_loop)),
    _OURS_NUMPY,
    *peers.plain(_OURS_NUMPY),
    Contender("optax", builds.returning_jax(_optax)),
    Contender("agclip-jax", builds.returning_jax(_agclip), ("optax",)),
    Contender("optax-jit", builds.compiled(_optax)),
    Contender("agclip-jax-jit", builds.compiled(_agclip), ("optax-jit",)),
    *peers.smartclip_functional(),
    *peers.tensorflow(_agclip),
    *peers.mlx(_agclip),
)


def _contests(
    name: str, function: str, contenders: tuple[Contender, ...], scale: builds.Pass
) -> list[Contest]:
    """Return the contest that clips and the one that does not, each with its own roof."""

    def contest(state: str, factor: float, roof: Build, **kind: Any) -> Contest:
        return Contest(
            "global_norm",
            f"{name}-{state}",
            f"{function}, norm {'beyond' if kind['clips'] else 'within'} the bound",
            (*contenders, Contender(ROOF, roof)),
            lambda gradients: checks.norm(gradients) * factor,
            memory=RESNET50.name,
            **kind,
        )

    both = builds.passes(builds.read, scale)
    return [
        contest("clips", 0.5, both, check=checks.norm_is_bound, clips=True),
        contest("within", 2.0, builds.passes(builds.read), check=checks.unchanged, clips=False),
    ]


@enter(_contests("in_place", "clip_by_global_norm_", IN_PLACE, builds.scale_), MODELS)
def test_in_place(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))


@enter(_contests("functional", "clip_by_global_norm", FUNCTIONAL, builds.scale), MODELS)
def test_functional(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))
