"""The rule of `adaptive_grad_clip`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agclip._clipping import adaptive, arguments, axis_arguments
from agclip._trees.leaves import Leaves
from agclip._typing import Bound, Scalar, Tree, UnitAxes
from agclip.rules import _checks
from agclip.rules._rule import Options, State, Step, taken


@dataclass(frozen=True, repr=False)
class AdaptiveGradClip(Options):
    """Clip every unit to a fraction of its parameters' norm, as `adaptive_grad_clip` does.

    ```
    bound_u = clipping · max(‖W_u‖₂, eps)
    out_u = G_u · bound_u / ‖G_u‖₂  if ‖G_u‖₂ > bound_u  else  G_u
    ```

    `update` needs the parameters. In the record `threshold` is `clipping`, `norm` the L2 norm of
    all leaves together, and `scale` the smallest coefficient of a unit.

    Attributes:
        clipping: The largest allowed ratio, λ: a number >= 0; infinity or None for no bound.
        eps: The least norm that a unit's parameters count with: a number >= 0.
        unit_axes: The axes the norm of one unit is taken over: "out_in" for the layout of PyTorch,
            "in_out" for that of Flax and TensorFlow, axes, or a function of (path, leaf).

    Example:
        >>> rule = agclip.AdaptiveGradClip(0.5, unit_axes="out_in")
        >>> params, grads = np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[2.0, 0.0], [0.3, 0.4]])
        >>> agclip.Clipper(rule)(grads, params)[0].tolist()
        [[0.5, 0.0], [0.3, 0.4]]

    Source: A. Brock, S. De, S. L. Smith, K. Simonyan, "High-performance large-scale image
    recognition without normalization", 2021, arXiv:2102.06171, equation 3.
    """

    clipping: Bound = 0.01
    eps: Bound = 1e-3
    unit_axes: UnitAxes = field(kw_only=True)

    def __post_init__(self) -> None:
        """Check the numbers as far as they can be read."""
        super().__post_init__()
        _checks.bound("clipping", self.clipping)
        _checks.bound("eps", self.eps, none="no lower limit")
        if isinstance(self.unit_axes, list):
            object.__setattr__(self, "unit_axes", tuple(self.unit_axes))

    def _step(self, grads: Any, state: State, params: Tree | None, *, inplace: bool) -> Step:
        if params is None:
            msg = (
                "`params` must be the parameters that `grads` belongs to; got None. Pass them: "
                "rule.update(grads, state, params), clipper(grads, params)."
            )
            raise TypeError(msg)
        return super()._step(grads, state, params, inplace=inplace)

    def _limit_of_nothing(self, leaves: Leaves) -> Scalar | None:
        return arguments.threshold("clipping", self.clipping, leaves)

    def _run(self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool) -> Step:
        axes = axis_arguments.units(self.unit_axes, leaves)
        plan = self._plan(leaves, self.clipping, axes=axes)
        outcome = adaptive.run(
            leaves, plan, params, self.clipping, self.eps, self.loss_scale, inplace=inplace
        )
        return taken(outcome, plan.nonfinite, state, inplace=inplace)
