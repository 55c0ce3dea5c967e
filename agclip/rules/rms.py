"""The rule of `clip_by_rms`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agclip._typing import Bound, Tree
from agclip.functions import average
from agclip.rules import _apply, _checks
from agclip.rules._rule import Options, State, Step


@dataclass(frozen=True, repr=False)
class ClipByRMS(Options):
    """Clip each leaf by its root mean square, as `clip_by_rms` does.

    ```
    n = ‖g_leaf‖₂ / √N                N entries in the leaf
    out = g_leaf · clip_rms / n  if n > clip_rms  else  g_leaf
    ```

    In the record `threshold` is `clip_rms`, `scale` the smallest coefficient, and the norms are L2
    norms, not divided by anything.

    Attributes:
        clip_rms: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.

    Source: N. Shazeer, M. Stern, "Adafactor: Adaptive learning rates with sublinear memory cost",
    2018, arXiv:1804.04235, section 6.
    """

    clip_rms: Bound

    def __post_init__(self) -> None:
        """Check the numbers as far as they can be read."""
        super().__post_init__()
        _checks.bound("clip_rms", self.clip_rms)

    def _step(self, grads: Any, state: State, params: Tree | None, *, inplace: bool) -> Step:
        leaves = self._gathered(grads, inplace=inplace)
        plan = self._plan(leaves, self.clip_rms, joint=False)
        plan = plan._replace(weights=average.weights(leaves, average.root_size))
        scale = self._scale_of(leaves)
        return _apply.clip(leaves, plan, "clip_rms", self.clip_rms, scale, state, inplace=inplace)
