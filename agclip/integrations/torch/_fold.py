"""Steps in which an optimizer clips by itself: it divides its gradients as it reads them.

Fused optimizers take `grad_scale`, by which they divide, and `found_inf`, at which they do nothing:
made for `GradScaler`, and as good for a coefficient. That saves the pass over the gradients that
multiplies them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from agclip.integrations.torch._places import Optimizer
from agclip.rules import _memory
from agclip.rules._rule import Rule
from agclip.rules.norms import ClipByGlobalNorm
from agclip.rules.scheduled import Scheduled

_GIVEN = "_agclip_given"
_READ_LATE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad)
"""Optimizers known to look at what they are handed after they have called the closure."""


def obstacle_of_rule(rule: Rule) -> str | None:
    """Return why no optimizer can do what a rule does; None if one can."""
    settings: Any = rule
    if isinstance(rule, Scheduled):
        settings = rule.rule_class(None, **dict(rule.options))
    if not isinstance(settings, (ClipByGlobalNorm, _memory.OfGlobalNorm)):
        return f"{type(rule).__name__} has no single coefficient for all gradients"
    if settings.nonfinite == "zero":
        return 'a NaN divided by anything is no zero, as nonfinite="zero" wants it'
    for name in ("strict", "reproducible"):
        if getattr(settings, name):
            return f"{name}=True wants more than a division in float32"
    return None


def obstacle_of_optimizer(optimizer: Optimizer, *, closure: bool) -> str | None:
    """Return why an optimizer cannot divide by itself, with a closure or without; None if it can.

    What follows from a closure's gradients can be handed over when it returns, and not before.
    """
    name = type(optimizer).__name__
    if not supports(optimizer):
        return f"{name} does not divide by itself unless it is made with fused=True"
    if closure and not isinstance(optimizer, _READ_LATE):
        return f"{name} may have looked at what it is handed before it calls its closure"
    return None


def supports(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer says that it divides by `grad_scale` and skips at `found_inf`."""
    return getattr(optimizer, "_step_supports_amp_scaling", False) and all(
        group.get("fused", True) for group in optimizer.param_groups
    )


def unborn(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer must not skip a step by itself.

    The fused SGD skips its first step with momentum buffers that nobody has filled, and goes on
    from whatever lies there (torch 2.13).
    """
    return isinstance(optimizer, torch.optim.SGD) and any(
        group["momentum"] != 0
        and any(
            p.grad is not None and optimizer.state.get(p, {}).get("momentum_buffer") is None
            for p in group["params"]
        )
        for group in optimizer.param_groups
    )


def divisor(scale: Any, coefficient: torch.Tensor) -> torch.Tensor:
    """Return what an optimizer is to divide by: the loss scale by the coefficient, in float32."""
    whole = 1.0 if scale is None else scale
    if isinstance(whole, torch.Tensor):
        whole = whole.to(coefficient.device, coefficient.dtype)
    return (whole / coefficient).to(torch.float32)


def nothing(optimizer: Optimizer) -> dict[str, Any]:
    """Return the attributes of an optimizer that has nothing to do."""
    return {"param_groups": [{**group, "params": []} for group in optimizer.param_groups]}


def double(params: Sequence[torch.Tensor]) -> bool:
    """Tell whether a gradient is more precise than what an optimizer divides by."""
    return any(p.dtype in (torch.float64, torch.complex128) for p in params)


def view(optimizer: Optimizer, attributes: Mapping[str, Any]) -> Any:
    """Return another self for one step: the optimizer with other attributes, all else shared.

    Hooks after a step are not called where it raises, and what stood on the optimizer then would
    be taken for a loss scale by the next step. So nothing is put there.
    """
    made = object.__new__(type(optimizer))
    own = vars(made)
    own.update(vars(optimizer))
    change(made, attributes)
    own[_GIVEN] = {**own}
    return made


def change(made: Any, attributes: Mapping[str, Any]) -> None:
    """Give a view other attributes, which stay its own."""
    vars(made).update(attributes)
    if _GIVEN in vars(made):
        vars(made)[_GIVEN].update(attributes)


def take_back(optimizer: Optimizer, arguments: Sequence[Any]) -> None:
    """Take over what a step has set on its view."""
    made = arguments[0] if arguments else None
    given = vars(made).get(_GIVEN) if type(made) is type(optimizer) else None
    if given is None:
        return
    for name, value in vars(made).items():
        if name != _GIVEN and (name not in given or given[name] is not value):
            setattr(optimizer, name, value)
