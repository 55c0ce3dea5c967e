"""The rule of `clip_by_global_norm`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agclip._clipping import arguments
from agclip._typing import Bound, Order, Tree
from agclip.rules import _apply, _checks
from agclip.rules._rule import Options, State, Step


@dataclass(frozen=True, repr=False)
class ClipByGlobalNorm(Options):
    """Clip all leaves by one coefficient, as `clip_by_global_norm` does.

    ```
    n = ‖g‖                            over all entries of all leaves
    out = g · clip_norm / n  if n > clip_norm  else  g
    ```

    In the record `threshold` is `clip_norm`, and `scale` the coefficient.

    Attributes:
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        ord: The order of the norm: a number > 0, `inf` or "inf" for the largest absolute value.

    Source: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural
    networks", 2013, arXiv:1211.5063.
    """

    clip_norm: Bound
    ord: Order = field(default=2, kw_only=True)

    def __post_init__(self) -> None:
        """Check the numbers as far as they can be read."""
        super().__post_init__()
        _checks.bound("clip_norm", self.clip_norm)
        arguments.check_order(self.ord)

    def _step(self, grads: Any, state: State, params: Tree | None, *, inplace: bool) -> Step:
        leaves = self._gathered(grads, inplace=inplace)
        order = arguments.check_order(self.ord)
        plan = self._plan(leaves, self.clip_norm, joint=True, order=order)
        scale = self._scale_of(leaves)
        return _apply.clip(leaves, plan, "clip_norm", self.clip_norm, scale, state, inplace=inplace)
