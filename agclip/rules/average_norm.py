"""The rule of `clip_by_average_norm`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agclip._typing import Bound, Tree
from agclip.functions import average
from agclip.rules import _apply, _checks
from agclip.rules._rule import Options, State, Step


@dataclass(frozen=True, repr=False)
class ClipByAverageNorm(Options):
    """Clip each leaf by its average norm, as `clip_by_average_norm` does.

    ```
    n = ‖g_leaf‖₂ / N                 N entries in the leaf
    out = g_leaf · clip_norm / n  if n > clip_norm  else  g_leaf
    ```

    In the record `threshold` is `clip_norm`, `scale` the smallest coefficient, and the norms are L2
    norms, not divided by anything.

    Attributes:
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.

    Source: TensorFlow's `tf.clip_by_average_norm`.
    """

    clip_norm: Bound

    def __post_init__(self) -> None:
        """Check the numbers as far as they can be read."""
        super().__post_init__()
        _checks.bound("clip_norm", self.clip_norm)

    def _step(self, grads: Any, state: State, params: Tree | None, *, inplace: bool) -> Step:
        leaves = self._gathered(grads, inplace=inplace)
        plan = self._plan(leaves, self.clip_norm, joint=False)
        plan = plan._replace(weights=average.weights(leaves, average.size))
        scale = self._scale_of(leaves)
        return _apply.clip(leaves, plan, "clip_norm", self.clip_norm, scale, state, inplace=inplace)
