"""What is known of a `GradScaler` when a step begins, and rules on gradients that are scaled.

`GradScaler.step` unscales the gradients and calls no step after an overflow, with two exceptions:
to an optimizer that says `_step_supports_amp_scaling` it hands the scale and the overflow as the
attributes `grad_scale` and `found_inf`, and one whose `step` has an argument `grad_scaler` it
leaves everything to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from agclip._backends import registry
from agclip._typing import Tree
from agclip.rules import _members
from agclip.rules._rule import Rule, State, Step
from agclip.rules.chain import Chain
from agclip.rules.norms import ClipByGlobalNorm
from agclip.rules.scheduled import Scheduled


class Scaling(NamedTuple):
    """What an optimizer has been told of its gradients."""

    scale: Any
    """What they are still multiplied by: a float where that is known for nothing; None for one."""
    overflow: torch.Tensor | None
    """Whether the step is to be skipped, 1.0 or 0.0; None where nobody has asked."""

    def known_overflow(self, *, wait: bool) -> bool:
        """Tell whether the step is surely skipped; the device is waited for only if told to."""
        flag = self.overflow
        return flag is not None and (wait or known(flag)) and bool(flag)


def known(value: torch.Tensor) -> bool:
    """Tell whether a value can be read for nothing."""
    backend = registry.resolve(value)
    return backend is not None and backend.access(value) == "free"


def scaling_of(optimizer: torch.optim.Optimizer, options: Mapping[str, Any]) -> Scaling:
    """Return what an optimizer has been told, given the keyword arguments of its step.

    Raises:
        TypeError: If it is handed the scaler itself.
    """
    if options.get("grad_scaler") is not None:
        msg = (
            "`optimizer` must take its loss scale as the attribute `grad_scale` to be attached to; "
            f"got {type(optimizer).__name__}, whose step takes `grad_scaler` and unscales the "
            "gradients itself. Call agclip.Clipper between scaler.unscale_(optimizer) and "
            "scaler.step(optimizer)."
        )
        raise TypeError(msg)
    scale = getattr(optimizer, "grad_scale", None)
    if isinstance(scale, torch.Tensor) and known(scale):
        scale = float(scale)
    return Scaling(scale, getattr(optimizer, "found_inf", None))


def refuse_closure(optimizer: torch.optim.Optimizer, scaling: Scaling) -> None:
    """Raise where a closure makes gradients of which nobody can say what they are multiplied by.

    Raises:
        ValueError: If there is a scale.
    """
    if scaling.scale is None and scaling.overflow is None:
        return
    msg = (
        "`closure` must be None for an optimizer that is handed a loss scale; got one for "
        f"{type(optimizer).__name__}, with grad_scale={scaling.scale!r}. Call backward() before "
        "the step, as GradScaler asks for."
    )
    raise ValueError(msg)


def loss_scale_of(rule: Rule) -> Any:
    """Return what a rule itself divides by; None for nothing."""
    if isinstance(rule, Scheduled):
        return dict(rule.options).get("loss_scale")
    return getattr(rule, "loss_scale", None)


def product(one: Any, other: Any) -> Any:
    """Return the product of two loss scales, each None for one."""
    if one is None or other is None:
        return other if one is None else one
    return one * other


def decided(
    rule: Rule, grads: Tree, state: State, params: Tree, scale: Any, *, inplace: bool
) -> Step:
    """Decide on a step of a rule on gradients that come in multiplied by a number, None for one.

    Nothing is written yet. A rule that cannot divide sees gradients that have been divided.
    """
    if scale is None:
        return _members.decided(rule, grads, state, params, inplace=inplace)
    whole = _dividing(rule, product(scale, loss_scale_of(rule)))
    if whole is not None:
        return _members.decided(whole, grads, state, params, inplace=inplace)
    divide = ClipByGlobalNorm(None, nonfinite="skip", loss_scale=scale)
    both = Chain([divide, rule])
    taken = both._step(grads, {"0": (), "1": state}, params, inplace=inplace)
    return taken._replace(state=taken.state["1"])


def _dividing(rule: Any, scale: Any) -> Rule | None:
    """Return a rule that divides by a number; None if it cannot."""
    if isinstance(rule, Scheduled):
        options = {**dict(rule.options), "loss_scale": scale}
        return Scheduled(rule.rule_class, rule.schedule, **options)
    if not hasattr(rule, "loss_scale"):
        return None
    divided: Rule = dataclasses.replace(rule, loss_scale=scale)
    return divided


def unless(overflow: torch.Tensor | None, old: State, new: State) -> State:
    """Return the new state, or the old one after an overflow; nothing is read.

    What has joined in this step stays: it holds nothing yet.
    """
    if overflow is None:
        return new
    if isinstance(new, Mapping):
        before = old if isinstance(old, Mapping) else {}
        return {
            key: unless(overflow, before[key], value) if key in before else value
            for key, value in new.items()
        }
    if not isinstance(new, torch.Tensor):
        return new
    return torch.where(overflow.to(new.device) > 0, old, new)
