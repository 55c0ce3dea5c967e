"""A bound that follows a quantile of the norms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from agclip._backends.backend import Backend
from agclip._typing import Namespace, Scalar
from agclip.rules import _checks, _memory
from agclip.rules._layout import BOUND, Parts


@dataclass(frozen=True, repr=False)
class QuantileClip(_memory.OfGlobalNorm):
    """Clip the global norm by a bound that moves to a quantile of the norms.

    ```
    out = g · c_t / n_t  if n_t > c_t  else  g
    c_{t+1} = c_t · exp(-rate · (b_t - quantile))       b_t = 1 if n_t <= c_t else 0
    ```

    A norm of zero, a NaN and an infinity leave the bound as it is. In the record `threshold` is c_t
    and `scale` the coefficient.

    Attributes:
        initial: c_0, the bound of the first step: a number > 0.
        quantile: The share of steps that are to stay as they are: between 0 and 1.
        rate: η, the step width of the logarithm of the bound: a number > 0.

    Example:
        >>> clipper = agclip.Clipper(agclip.QuantileClip(initial=1.0, quantile=0.5, rate=0.2))
        >>> for norm in (5.0, 5.0):
        ...     clipped, info = clipper(np.array([norm]))
        >>> round(float(info.threshold), 3)
        1.105

    Source: G. Andrew, O. Thakkar, H. B. McMahan, S. Ramaswamy, "Differentially private learning
    with adaptive clipping", 2021, arXiv:1905.03871, equation 1; one norm a step, and no noise.
    """

    initial: float = 0.1
    quantile: float = 0.5
    rate: float = 0.2

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        _checks.positive("initial", self.initial)
        _checks.fraction("quantile", self.quantile)
        _checks.positive("rate", self.rate)

    def _layout(self) -> Parts:
        return {"threshold": BOUND._replace(start=float(self.initial))}

    def _advance(self) -> tuple[_memory.Advance, tuple[float, ...]]:
        rate, quantile = float(self.rate), float(self.quantile)
        down = math.exp(-rate * (1.0 - quantile))
        up = math.exp(rate * quantile)
        return _advance, (down, up)


def _advance(
    _: Backend, m: Namespace, numbers: tuple[float, ...], state: dict[str, Any], norm: Scalar
) -> tuple[Scalar, Scalar, dict[str, Any]]:
    down, up = numbers
    threshold = state["threshold"]
    moved = m.where(norm <= threshold, threshold * down, threshold * up)
    # A bound that had become zero or infinite could never move again.
    counts = m.isfinite(norm) & (norm > 0) & m.isfinite(moved) & (moved > 0)
    return threshold, threshold, {"threshold": m.where(counts, moved, threshold)}
