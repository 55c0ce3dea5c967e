"""A clipper whose steps an optimizer's hooks take."""

from __future__ import annotations

from typing import Any

import torch

from agclip._typing import Tree
from agclip.integrations.torch import _scaler
from agclip.integrations.torch._places import Gradients
from agclip.integrations.torch._scaler import Scaling
from agclip.rules._info import ClipInfo
from agclip.rules._layout import holds_arrays
from agclip.rules._rule import Rule, State, Step, _nothing
from agclip.rules.chain import Chain
from agclip.rules.clipper import Clipper
from agclip.rules.per_group import PerGroup
from agclip.rules.scheduled import Scheduled

_NO_SCALING = Scaling(None, None)


class Stepper(Clipper):
    """A clipper of gradients that may be scaled, and which may be left as they are."""

    _scaling: Scaling = _NO_SCALING
    _writes: bool = True

    def clip(self, found: Gradients, scaling: Scaling, *, folds: bool) -> ClipInfo:
        """Clip the gradients of one step.

        Args:
            found: The gradients.
            scaling: What they come in multiplied by.
            folds: Leave them as they are: the record says what is left to do.
        """
        self._scaling, self._writes = scaling, not folds
        try:
            clipped, info = self(found.grads, found.params)
        finally:
            self._scaling, self._writes = _NO_SCALING, True
        if not folds and not self.inplace:
            found.assign(clipped)
        return info

    def _take(self, grads: Any, state: State, params: Tree | None) -> Step:
        scaling = self._scaling
        inplace = self.inplace or not self._writes
        taken = _scaler.decided(self.rule, grads, state, params, scaling.scale, inplace=inplace)
        if _captured(taken.info.norm) and holds_arrays(taken.state):
            msg = (
                "`rule` must remember nothing while a CUDA graph is captured; got "
                f"{type(self.rule).__name__}, whose state would not move when the graph is "
                "replayed. Use ClipByGlobalNorm, or leave the step out of the graph."
            )
            raise ValueError(msg)
        return Step(
            taken.tree,
            _scaler.unless(scaling.overflow, state, taken.state),
            taken.info,
            taken.write if self._writes else _nothing,
            taken.traced,
        )


def policies(rule: Rule | None) -> set[str]:
    """Return what a rule and its members do about a NaN or an infinity."""
    if isinstance(rule, Chain):
        return set().union(*map(policies, rule.rules))
    if isinstance(rule, PerGroup):
        return set().union(*(policies(one) for _, one in rule._pairs))
    options = dict(rule.options) if isinstance(rule, Scheduled) else {}
    found = options.get("nonfinite", getattr(rule, "nonfinite", None))
    return set() if found is None else {found}


def _captured(norm: Any) -> bool:
    return getattr(norm, "is_cuda", False) and torch.cuda.is_current_stream_capturing()
