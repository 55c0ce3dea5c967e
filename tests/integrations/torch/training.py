"""Steps with gradients that are known beforehand, and what they come to when clipped by hand."""

import math

import pytest
import torch

import agclip
from oracle import rules as oracle

SHAPES = [(3, 4), (4,), (2, 3), ()]
STEPS = 6
LATE = 4
"""The step whose gradients hold an infinity, where one does: past every warm-up."""

OPTIMIZERS = {
    "adamw": lambda ps, **o: torch.optim.AdamW(ps, lr=0.01, weight_decay=0.1, **o),
    "adam": lambda ps, **o: torch.optim.Adam(ps, lr=0.01, amsgrad=True, weight_decay=0.1, **o),
    "sgd": lambda ps, **o: torch.optim.SGD(ps, lr=0.1, **o),
    "momentum": lambda ps, **o: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True, **o),
    "adagrad": lambda ps, **o: torch.optim.Adagrad(ps, lr=0.1, **o),
}


def need_division(name):
    """Skip where an optimizer that is made with fused=True does not divide by itself."""
    if name == "adagrad" and torch.__version__ < (2, 13):  # 2.12 was not looked at
        pytest.skip("Adagrad of PyTorch 2.11 does not divide by itself")


RULES = {
    "global": (
        lambda **o: agclip.ClipByGlobalNorm(2.0, **o),
        lambda norms: [2.0] * len(norms),
    ),
    "zero": (
        lambda **o: agclip.ClipByGlobalNorm(0.0, **o),
        lambda norms: [0.0] * len(norms),
    ),
    "infinite": (
        lambda **o: agclip.ClipByGlobalNorm(math.inf, **o),
        lambda norms: [math.inf] * len(norms),
    ),
    "scheduled": (
        lambda **o: agclip.Scheduled(agclip.ClipByGlobalNorm, lambda t: 3.0 / (1.0 + t), **o),
        lambda norms: [3.0 / (1 + t) for t in range(len(norms))],
    ),
    "autoclip": (
        lambda **o: agclip.AutoClip(40.0, window=4, warmup=1, **o),
        lambda norms: oracle.autoclip(norms, 40.0, 4, 1),
    ),
    "zclip": (
        lambda **o: agclip.ZClip(0.5, warmup=2, max_norm=None, **o),
        lambda norms: [
            bound for _, bound in oracle.zclip_bounds(norms, 0.5, warmup=2, max_norm=None)
        ],
    ),
    "quantile": (
        lambda **o: agclip.QuantileClip(3.0, **o),
        lambda norms: oracle.quantile(norms, 3.0),
    ),
}
"""How a rule is made, and the bounds it comes to for a list of norms."""


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES
    ]


def gradients(*, bad=None, steps=STEPS, dtype=torch.float32):
    """Return the gradients of each step; in step `bad` one of them holds an infinity."""
    generator = torch.Generator().manual_seed(1)
    found = [
        [torch.randn(shape, generator=generator).to(dtype) * (1 + t) for shape in SHAPES]
        for t in range(steps)
    ]
    if bad is not None:
        found[bad][0][1, 2] = math.inf
    return found


def norm(grads):
    return math.sqrt(sum(float((g.double() ** 2).sum()) for g in grads))


def clipped(grads, bound, policy):
    """Return gradients clipped by hand, and whether the step is skipped."""
    n = norm(grads)
    if math.isfinite(n):
        return [g * (bound / n) if n > bound else g for g in grads], False
    if policy == "zero":
        return [torch.zeros_like(g) for g in grads], False
    return [g * math.nan for g in grads], policy != "propagate"


def by_hand(optimizer, params, steps, bounds_of, policy, *, scaled):
    """Train with gradients clipped by hand, and return the norms that entered."""
    norms = []
    for grads in steps:
        n = norm(grads)
        if not math.isfinite(n) and (scaled or policy == "error"):
            continue  # a scaler skips it, and an error ends it: nothing is remembered
        norms.append(n)
        new, skipped = clipped(grads, bounds_of(norms)[-1], policy)
        if not skipped:
            for p, g in zip(params, new, strict=True):
                p.grad = g.clone()
            optimizer.step()
    return norms


def train(optimizer, params, steps, scaler=None, *, unscale=False):
    """Train as users do, with a loss that has the given gradients; go on after an error."""
    errors = 0
    for grads in steps:
        optimizer.zero_grad()
        loss = sum((p * g).sum() for p, g in zip(params, grads, strict=True))
        (loss if scaler is None else scaler.scale(loss)).backward()
        try:
            if scaler is None:
                optimizer.step()
            else:
                if unscale:
                    scaler.unscale_(optimizer)
                scaler.step(optimizer)
                scaler.update()
        except FloatingPointError:
            errors += 1
    return errors


def close(ours, theirs, rtol=4e-7):
    """Assert that parameters are the same but for the last bits of float32 in each update.

    The parameters are of the size of one; one that crosses zero keeps the errors of its updates.
    """
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.data, other.data, rtol=rtol, atol=2.5 * rtol, equal_nan=True)
