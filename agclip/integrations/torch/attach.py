"""A rule that clips before every step of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from agclip import _checks
from agclip._checks import describe
from agclip.integrations.torch._attachment import ATTRIBUTE, Attachment
from agclip.integrations.torch._places import Places, require_one_each
from agclip.rules._rule import Rule, check_rule
from agclip.rules.per_group import PerGroup


def attach(
    optimizer: torch.optim.Optimizer,
    rule: Rule | Sequence[Rule | None],
    *,
    model: torch.nn.Module | None = None,
    inplace: bool = True,
    fold: bool | Literal["auto"] = "auto",
) -> Attachment:
    """Clip before every step of an optimizer, by a rule that keeps its state.

    One rule clips the gradients of all parameter groups together, as one call of `clip_grad_norm_`
    does: groups mostly differ in weight decay or learning rate, and say nothing of the gradients.
    A list of rules clips each parameter group by one of its own, None for a group that is left
    alone. `PerGroup` chooses by the names of parameters.

    Paths in records and states are the names of the parameters if `model` is given, or if the
    optimizer was made of `named_parameters()` (PyTorch 2.6), else their positions; after the
    position of the group where there is a list of rules.

    The rule's state goes with the optimizer: `optimizer.state_dict()` has it under "agclip",
    `load_state_dict` goes on from there, or begins anew if there is none. Copies by `deepcopy` and
    `pickle` are attached, each to a state of its own; `attachment(copy)` returns it.

    `nonfinite="skip"` skips the step: the parameters and what the optimizer remembers stay as they
    are. That reads one value a step, except where the step is folded. The other policies say what
    becomes of the gradients.

    Under `GradScaler` nothing has to be unscaled first: what comes in multiplied is divided. Steps
    that the scaler skips enter no statistic. A closure is followed by a clip at every call, which
    makes each one a step of the rule.

    **Folding.** A fused optimizer can divide the gradients as it reads them, and need not be given
    clipped ones: a clip costs the norm alone. It is for rules with one coefficient for all
    gradients, `ClipByGlobalNorm` and those that follow global norms. Then nobody sees clipped
    gradients before the step, and as the coefficient is rounded to float32 and divided by, the
    parameters may differ in the last bits.

    Args:
        optimizer: An optimizer of `torch.optim`, or a subclass.
        rule: The rule; or one for each parameter group, in order.
        model: The module that names the parameters.
        inplace: Overwrite the gradients; otherwise every `.grad` becomes a new tensor.
        fold: "auto" folds where the result is the same but for the last bits of a float32; False
            never does; True also folds for float64 parameters, and raises where it cannot.

    Returns:
        What has been attached: `last` is the record of the last step, `detach()` takes it off.

    Raises:
        TypeError: If an argument is of a wrong kind.
        ValueError: If something is attached already, the optimizer is differentiable, the rule
            cannot be folded with `fold=True`, there is not one rule for each group, or `model` is
            another's.

    Example:
        >>> import torch
        >>> from agclip import ClipByGlobalNorm
        >>> from agclip.integrations.torch import attach
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = torch.optim.SGD([p], lr=1.0)
        >>> clip = attach(optimizer, ClipByGlobalNorm(1.0))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> optimizer.step()
        >>> p.data, clip.last.norm
        (tensor([-0.6000, -0.8000]), tensor(5.))
    """
    _check_optimizer(optimizer)
    _checks.flag("inplace", inplace)
    if fold != "auto":
        _checks.flag("fold", fold, 'True, False or "auto"')
    grouped = isinstance(rule, (list, tuple))
    one: Any = _of_groups(rule, optimizer) if grouped else rule
    check_rule("rule", one)
    places = Places(optimizer, model, grouped=grouped)
    made = Attachment(optimizer, one, places, inplace=inplace, fold=fold)
    made._bind(optimizer)
    return made


def attachment(optimizer: torch.optim.Optimizer) -> Attachment | None:
    """Return what is attached to an optimizer; None if nothing is.

    Example:
        >>> import copy, torch
        >>> from agclip import ClipByGlobalNorm
        >>> from agclip.integrations.torch import attach, attachment
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))])
        >>> clip = attach(optimizer, ClipByGlobalNorm(1.0))
        >>> attachment(optimizer) is clip
        True
        >>> attachment(copy.deepcopy(optimizer)).rule
        ClipByGlobalNorm(clip_norm=1.0, nonfinite='propagate', strict=False, reproducible=False)
    """
    found: Attachment | None = getattr(optimizer, ATTRIBUTE, None)
    return found


def _check_optimizer(optimizer: Any) -> None:
    """Raise unless something can be attached.

    Raises:
        TypeError: If it is no optimizer, or one that only calls another's step.
        ValueError: If something is attached to it, or it is differentiable.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        msg = f"`optimizer` must be a torch.optim.Optimizer; got {describe(optimizer)}."
        raise TypeError(msg)
    hooks = vars(optimizer).get("_optimizer_step_pre_hooks")
    if not isinstance(hooks, Mapping):
        msg = (
            "`optimizer` must have hooks of its own; got "
            f"{type(optimizer).__name__}, which wraps another one. Attach to that, before it is "
            "wrapped."
        )
        raise TypeError(msg)
    if any(group.get("differentiable") for group in optimizer.param_groups):
        msg = (
            "`optimizer` must not be differentiable, as gradients are clipped without a "
            f"derivative; got {type(optimizer).__name__} with differentiable=True. Call "
            "rule.update(grads, state) on the gradients instead, which has one."
        )
        raise ValueError(msg)
    found = attachment(optimizer)
    if found is not None:
        msg = (
            f"`optimizer` must have nothing attached; got one that clips by {found.rule!r}. Call "
            "attachment(optimizer).detach() first, or attach a Chain of both rules."
        )
        raise ValueError(msg)


def _of_groups(rules: Any, optimizer: torch.optim.Optimizer) -> PerGroup:
    """Return the rule that clips each parameter group by its own."""
    groups = optimizer.param_groups
    require_one_each(len(rules), len(groups))
    for i, rule in enumerate(rules):
        if rule is not None:
            check_rule(f"rule[{i}]", rule)
    pairs = zip(groups, rules, strict=True)
    return PerGroup({f"{i}.*": rule for i, (group, rule) in enumerate(pairs) if group["params"]})
