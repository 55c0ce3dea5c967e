"""A clip before a step of a fused optimizer: by PyTorch, in place, and by the optimizer itself.

The roof is the step alone: what a contender takes above it is what its clip costs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pytest_benchmark.fixture import BenchmarkFixture

import agclip
from agclip.integrations.torch import attach
from bench import checks
from bench.arrays import torch_copies
from bench.bounds import Bounds
from bench.contests import ROOF, Build, Clip, Contender, Contest, Leaves, Match, enter
from bench.workloads import ONE_LEAF, RESNET50, SMALL, TINY, Gradients

Before = Callable[[list[torch.nn.Parameter], float], object]


def _stepping(prepare: Callable[[torch.optim.Optimizer], Before]) -> Build:
    """Clip gradients, and take a step of AdamW; what `prepare` returns is called before each."""

    def build(gradients: Gradients, bounds: Bounds) -> Clip:
        grads = bounds.overwriting(torch_copies(gradients), gradients)
        parameters = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads]
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        optimizer = torch.optim.AdamW(parameters, fused=True)
        before = prepare(optimizer)

        def call() -> Leaves:
            before(parameters, bounds())
            optimizer.step()
            return grads

        return call

    return build


def _torch(_: torch.optim.Optimizer) -> Before:
    return torch.nn.utils.clip_grad_norm_


def _nothing(_: torch.optim.Optimizer) -> Before:
    return lambda *_: None


def _attached(*, fold: bool) -> Callable[[torch.optim.Optimizer], Before]:
    def prepare(optimizer: torch.optim.Optimizer) -> Before:
        bound = torch.tensor(0.0, dtype=torch.float64)
        attach(optimizer, agclip.ClipByGlobalNorm(bound), fold=fold)
        return lambda _, value: bound.fill_(value)

    return prepare


FOLD = Contest(
    "fold",
    "fold",
    "a clip by the global norm and a step of AdamW (fused)",
    (
        Contender("torch", _stepping(_torch)),
        Contender(ROOF, _stepping(_nothing)),
        Contender("agclip-torch-inplace", _stepping(_attached(fold=False)), (ROOF,)),
        Contender("agclip-torch-fold", _stepping(_attached(fold=True)), (ROOF,)),
    ),
    checks.norm,
    checks.norm_is_bound,
)


@enter([FOLD], (SMALL, TINY, RESNET50, ONE_LEAF))
def test_fold(benchmark: BenchmarkFixture, match: Match, name: str) -> None:
    assert match.right(name, benchmark(match.calls[name]))
