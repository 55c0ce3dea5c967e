"""What `attach` puts on an optimizer: a clipper that its hooks drive."""

from __future__ import annotations

import copy
import functools
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from agclip.integrations.torch import _fold, _scaler
from agclip.integrations.torch._hooks import within_a_step
from agclip.integrations.torch._places import Optimizer, Places
from agclip.integrations.torch._scaler import Scaling
from agclip.integrations.torch._stepper import Stepper, policies
from agclip.rules._info import ClipInfo
from agclip.rules._rule import Rule

ATTRIBUTE = "_agclip_attachment"
KEY = "agclip"
_HOOKS = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


class Attachment:
    """A rule that is attached to an optimizer: see `attach`, which makes one.

    Attributes:
        fold: As given to `attach`.
        last: The record of the last step that was taken with gradients, of which nothing has been
            read; None before the first.
        folded: Whether the optimizer itself was left to divide in that step.

    Example:
        >>> import torch
        >>> from agclip import ClipByGlobalNorm
        >>> from agclip.integrations.torch import attach
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = torch.optim.SGD([p], lr=1.0)
        >>> clip = attach(optimizer, ClipByGlobalNorm(1.0))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> optimizer.step()
        >>> clip.step, bool(clip.last.clipped), clip.inplace, clip.rule.clip_norm
        (1, True, True, 1.0)
        >>> clip.load_state_dict(clip.state_dict())
        >>> clip.reset()
        >>> clip.detach()
    """

    last: ClipInfo | None
    folded: bool

    def __init__(
        self,
        optimizer: Optimizer,
        rule: Rule,
        places: Places,
        *,
        inplace: bool,
        fold: bool | Literal["auto"],
    ) -> None:
        self.fold = fold
        self.last, self.folded = None, False
        self._places = places
        self._clipper = Stepper(rule, inplace=inplace)
        self._policies = policies(self.rule)
        self._skips = self._policies == {"skip"}
        self._obstacle = _fold.obstacle_of_rule(self.rule)
        self._handles: list[Any] = []
        self._optimizer: Callable[[], Optimizer | None] = _nobody
        self._loaded: Stepper | None = None
        self._folds(optimizer)
        if self._skips and isinstance(optimizer, torch.optim.LBFGS):
            msg = (
                '`rule` must have another policy than nonfinite="skip" for LBFGS, whose step takes '
                f"many gradients; got {self.rule!r}."
            )
            raise ValueError(msg)

    def __repr__(self) -> str:
        optimizer = self._optimizer()
        whose = "no optimizer" if optimizer is None else type(optimizer).__name__
        return f"Attachment({self.rule!r}, step={self.step}) to {whose}"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_handles": [], "_optimizer": _nobody, "_loaded": None}

    @property
    def rule(self) -> Rule:
        """The rule, with the settings filled in."""
        return self._clipper.rule

    @property
    def inplace(self) -> bool:
        """Whether gradients are overwritten."""
        return self._clipper.inplace

    @property
    def step(self) -> int:
        """The number of times that gradients have been clipped."""
        return self._clipper.step

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the rule as plain data: see `Clipper.state_dict`."""
        return self._clipper.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state: see `Clipper.load_state_dict`."""
        self._clipper.load_state_dict(state_dict)

    def reset(self) -> None:
        """Forget the state: the next step is the first one."""
        self._clipper.reset()

    def detach(self) -> None:
        """Take the rule off the optimizer, which is as it was before; the state remains here."""
        for handle in self._handles:
            handle.remove()
        optimizer = self._optimizer()
        if optimizer is not None:
            for name in (ATTRIBUTE, "__reduce_ex__"):
                vars(optimizer).pop(name, None)
        self._handles, self._optimizer = [], _nobody

    # --- steps ---------------------------------------------------------------------------------

    def _before(
        self, optimizer: Any, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Clip before a step, or after its closure; return what the step is to be called with."""
        if not self._is_of(optimizer) or within_a_step(optimizer):
            return None
        scaling = _scaler.scaling_of(optimizer, options)
        closure = arguments[1] if len(arguments) > 1 else options.get("closure")
        folds = self._folds(optimizer, closure=closure is not None)
        if closure is None:
            attributes = self._clip(optimizer, scaling, folds=folds)
            if not attributes:
                return None
            return (_fold.view(optimizer, attributes), *arguments[1:]), options
        _scaler.refuse_closure(optimizer, scaling)
        one = _fold.view(optimizer, {}) if folds or self._skips else optimizer

        @functools.wraps(closure)
        def clipping(*given: Any, **more: Any) -> Any:
            loss = closure(*given, **more)
            attributes = self._clip(optimizer, scaling, folds=folds)
            if one is not optimizer:
                _fold.change(one, {"param_groups": optimizer.param_groups, **attributes})
            return loss

        if len(arguments) > 1:
            return (one, clipping, *arguments[2:]), options
        return (one, *arguments[1:]), {**options, "closure": clipping}

    def _after(self, optimizer: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Take over what the step has set."""
        if self._is_of(optimizer):
            _fold.take_back(optimizer, arguments)

    def _is_of(self, optimizer: Any) -> bool:
        """Tell an optimizer from a view of it, whose step is within its own."""
        return self._optimizer() is optimizer

    @torch.no_grad()
    def _clip(self, optimizer: Any, scaling: Scaling, *, folds: bool) -> dict[str, Any]:
        """Clip the gradients there are; return the attributes that the step is to see."""
        found = self._places.of(optimizer)
        if found is None:
            return {}
        unborn = (self._skips or scaling.overflow is not None) and _fold.unborn(optimizer)
        if scaling.known_overflow(wait=unborn or "error" in self._policies):
            return _fold.nothing(optimizer)
        if folds and self.fold == "auto":
            folds = not _fold.double(found.given)
        self.last = self._clipper.clip(found, scaling, folds=folds)
        self.folded = folds
        attributes: dict[str, Any] = {}
        free = _scaler.known(self.last.nonfinite)
        if self._skips:
            if free or unborn or not _fold.supports(optimizer):
                if bool(self.last.nonfinite):
                    return _fold.nothing(optimizer)
            else:
                attributes["found_inf"] = _either(self.last.nonfinite, scaling.overflow)
        if not folds:
            return attributes if scaling.scale is None else {**attributes, "grad_scale": None}
        scale = _scaler.product(scaling.scale, _scaler.loss_scale_of(self.rule))
        if scale is None and free and float(self.last.scale) == 1.0:
            return attributes
        return {**attributes, "grad_scale": _fold.divisor(scale, self.last.scale)}

    def _folds(self, optimizer: Optimizer, *, closure: bool = False) -> bool:
        """Tell whether steps are folded.

        Raises:
            ValueError: If they are to be and cannot.
        """
        if self.fold is False:
            return False
        obstacle = self._obstacle or _fold.obstacle_of_optimizer(optimizer, closure=closure)
        if obstacle is None:
            return True
        if self.fold is True:
            msg = (
                f'`fold` must be False or "auto" where the optimizer cannot clip; got True, and '
                f"{obstacle}."
            )
            raise ValueError(msg)
        return False

    # --- saving and copying --------------------------------------------------------------------

    def _bind(self, optimizer: Any) -> None:
        """Be called before every step of an optimizer, and be saved and copied with it."""
        self._optimizer = weakref.ref(optimizer)
        aside: Any = torch.compiler.disable
        self._handles = [
            # A compiled step calls these as they are: what they keep is no matter for a compiler.
            optimizer.register_step_pre_hook(aside(self._before)),
            optimizer.register_step_post_hook(aside(self._after)),
            optimizer.register_state_dict_post_hook(self._save),
            optimizer.register_load_state_dict_pre_hook(self._check),
            optimizer.register_load_state_dict_post_hook(self._load),
        ]
        setattr(optimizer, ATTRIBUTE, self)
        # An optimizer leaves its hooks behind when it is copied (torch 2.13).
        optimizer.__reduce_ex__ = self._reduced

    def _save(self, _: Optimizer, state_dict: dict[str, Any]) -> None:
        state_dict[KEY] = self.state_dict()

    def _check(self, _: Optimizer, state_dict: dict[str, Any]) -> None:
        """Load into a copy, before the optimizer has loaded anything."""
        saved = state_dict.pop(KEY, None)
        self._loaded = copy.copy(self._clipper)
        if saved is None:
            self._loaded.reset()
        else:
            self._loaded.load_state_dict(saved)

    def _load(self, _: Optimizer) -> None:
        if self._loaded is not None:
            self._clipper, self._loaded = self._loaded, None

    def _reduced(self, protocol: int) -> tuple[Any, ...]:
        """Return what makes a copy of the optimizer, to which a copy of this is attached."""
        optimizer: Any = self._optimizer()
        cls: Any = type(optimizer)
        make, arguments, *rest = cls.__reduce_ex__(optimizer, protocol)
        scales = getattr(optimizer, "_step_supports_amp_scaling", False)
        return (_remade, (make, arguments, self, scales), *rest)


def _remade(
    make: Callable[..., Any], arguments: tuple[Any, ...], attached: Attachment, scales: bool
) -> Any:
    """Return an optimizer that has yet to be given its state."""
    optimizer = make(*arguments)
    for name in _HOOKS:
        vars(optimizer).setdefault(name, OrderedDict())
    if scales:  # copies do not know it (torch 2.13)
        optimizer._step_supports_amp_scaling = True
    attached._bind(optimizer)
    return optimizer


def _either(nonfinite: torch.Tensor, overflow: torch.Tensor | None) -> torch.Tensor:
    flag = nonfinite.to(torch.float32)
    return flag if overflow is None else torch.maximum(flag, overflow.to(flag.device))


def _nobody() -> None:
    """Return the optimizer of what is attached to none."""
