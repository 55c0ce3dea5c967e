"""One step of a clipper on the gradients of parameters that have names: what trainers share."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import torch

from agclip.rules import Clipper
from agclip.rules._info import ClipInfo

Parameters = Mapping[str, torch.Tensor]


def unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """Return the optimizer within what a trainer has made of it."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    found: torch.optim.Optimizer = optimizer
    return found


def unlike(name: str, taken: Set[str]) -> str:
    """Return a name, with marks behind it if others have it: a `ParameterList` counts its own."""
    while name in taken:
        name += "'"
    return name


def named(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the parameters of an optimizer by the names that they have in a module."""
    names = {p: name for name, p in module.named_parameters()}
    found = [p for group in optimizer.param_groups for p in group["params"]]
    taken = set(names.values())
    return {names.get(p) or unlike(str(i), taken): p for i, p in enumerate(found)}


def is_scaled(optimizer: torch.optim.Optimizer, scaler: Any) -> bool:
    """Tell whether gradients are still multiplied by the loss scale of a `GradScaler`, or None."""
    if scaler is None or not scaler.is_enabled():
        return False
    state = scaler._per_optimizer_states.get(id(optimizer))
    return state is None or state["stage"].name == "READY"


def unscale(optimizer: torch.optim.Optimizer, scaler: Any) -> None:
    """Divide gradients by the loss scale of a `GradScaler`, or None, unless that has been done.

    A fused optimizer, whose step would divide, is told by the scaler that nothing is left to do.
    """
    if is_scaled(optimizer, scaler):
        scaler.unscale_(optimizer)


@torch.no_grad()
def clip(clipper: Clipper, parameters: Parameters) -> ClipInfo | None:
    """Clip the gradients of parameters; None, and no step of the clipper, where there is none."""
    grads = {name: p.grad for name, p in parameters.items()}
    if all(grad is None for grad in grads.values()):
        return None
    clipped, info = clipper(grads, parameters)
    if not clipper.inplace:
        for name, p in parameters.items():
            p.grad = clipped[name]
    return info
