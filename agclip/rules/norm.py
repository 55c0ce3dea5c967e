"""The rule of `clip_by_norm`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agclip._clipping import arguments, axis_arguments
from agclip._typing import Bound, Order, Tree
from agclip.rules import _apply, _checks
from agclip.rules._rule import Options, State, Step


@dataclass(frozen=True, repr=False)
class ClipByNorm(Options):
    """Clip each leaf by its own norm, as `clip_by_norm` does.

    ```
    n = ‖g_leaf‖                       over the whole leaf, or over `axes`
    out = g_leaf · clip_norm / n  if n > clip_norm  else  g_leaf
    ```

    In the record `threshold` is `clip_norm`, `norm` that of all leaves together, and `scale` the
    smallest coefficient.

    Attributes:
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        axes: The axes a norm is taken over; None for all.
        ord: The order of the norm: a number > 0, `inf` or "inf" for the largest absolute value.

    Source: TensorFlow's `tf.clip_by_norm`; R. Pascanu, T. Mikolov, Y. Bengio, 2013,
    arXiv:1211.5063.
    """

    clip_norm: Bound
    axes: int | tuple[int, ...] | None = None
    ord: Order = field(default=2, kw_only=True)

    def __post_init__(self) -> None:
        """Check the numbers as far as they can be read."""
        super().__post_init__()
        _checks.bound("clip_norm", self.clip_norm)
        arguments.check_order(self.ord)
        if isinstance(self.axes, list):
            object.__setattr__(self, "axes", tuple(self.axes))

    def _step(self, grads: Any, state: State, params: Tree | None, *, inplace: bool) -> Step:
        leaves = self._gathered(grads, inplace=inplace)
        order = arguments.check_order(self.ord)
        plan = self._plan(leaves, self.clip_norm, joint=False, order=order)
        if self.axes is not None:
            chosen = tuple(
                axis_arguments.normalise("axes", self.axes, leaf.ndim, leaves.path(i))
                for i, leaf in enumerate(leaves.arrays)
            )
            plan = plan._replace(axes=chosen)
        scale = self._scale_of(leaves)
        return _apply.clip(leaves, plan, "clip_norm", self.clip_norm, scale, state, inplace=inplace)
