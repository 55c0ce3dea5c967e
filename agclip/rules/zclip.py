"""A bound from the mean and the spread of the norms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from agclip._backends.backend import Backend
from agclip._typing import Namespace, Scalar
from agclip.rules import _checks, _memory
from agclip.rules._arithmetic import average, real, root, times
from agclip.rules._layout import COUNT, SIZE, Parts


@dataclass(frozen=True, repr=False)
class ZClip(_memory.OfGlobalNorm):
    """Clip global norms that lie far above their moving average.

    ```
    z = (n_t - μ) / (σ + eps)
    c_t = μ + z_threshold² · σ / z  if z > z_threshold  else  n_t        target "reciprocal"
    c_t = μ                         if z > z_threshold  else  n_t        target "mean"
    out = g · min(c_t, max_norm) / n_t                  where that is less than one
    μ  ←  alpha·μ + (1 - alpha)·c_t
    σ² ←  alpha·σ² + (1 - alpha)·(c_t - μ)²             with the new μ
    ```

    For the first `warmup` steps μ and σ² are mean and variance of the norms so far, and only
    `max_norm` bounds. A norm that is zero, NaN or infinite counts as a step and leaves μ and σ as
    they are. In the record `threshold` is the norm above which the step is clipped, the smaller of
    μ + z_threshold·(σ + eps) and `max_norm`; `scale` is the coefficient.

    Attributes:
        z_threshold: How many σ above μ a norm may lie: a number > 0.
        alpha: The weight of the past in the averages: between 0 and 1.
        warmup: The number of steps before the averages bound anything.
        max_norm: A bound for every step; None for none.
        target: What a norm beyond is brought down to: "reciprocal" or "mean".
        eps: Added to σ: a number > 0.

    Example:
        >>> clipper = agclip.Clipper(agclip.ZClip(warmup=4, max_norm=None))
        >>> for norm in (1.0, 1.5, 1.0, 1.5, 50.0):
        ...     clipped, info = clipper(np.array([norm]))
        >>> round(float(clipped[0]), 3)
        1.258

    Source: A. Kumar, L. Owen, N. R. Chowdhury, F. Güra, "ZClip: Adaptive spike mitigation for LLM
    pre-training", 2025, arXiv:2504.02507; `max_norm` and `eps` from its implementation.
    """

    z_threshold: float = 2.5
    alpha: float = 0.97
    warmup: int = 25
    max_norm: float | None = 1.0
    target: Literal["reciprocal", "mean"] = "reciprocal"
    eps: float = 1e-6

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        _checks.positive("z_threshold", self.z_threshold)
        _checks.fraction("alpha", self.alpha)
        _checks.count("warmup", self.warmup)
        _checks.number("max_norm", self.max_norm)
        _checks.positive("eps", self.eps)
        _checks.choice("target", self.target, ("reciprocal", "mean"))

    def _layout(self) -> Parts:
        return {"count": COUNT, "seen": COUNT, "mean": SIZE, "variance": SIZE}

    def _advance(self) -> tuple[_memory.Advance, tuple[float, ...]]:
        most = math.inf if self.max_norm is None else float(self.max_norm)
        reach = float(self.z_threshold) ** 2 if self.target == "reciprocal" else 0.0
        return _advance, (self.z_threshold, reach, self.alpha, self.warmup, most, self.eps)


def _advance(
    backend: Backend,
    m: Namespace,
    numbers: tuple[float, ...],
    state: dict[str, Any],
    norm: Scalar,
) -> tuple[Scalar, Scalar, dict[str, Any]]:
    z_threshold, reach, alpha, warmup, most, eps = numbers
    count, seen, mean, variance = state["count"], state["seen"], state["mean"], state["variance"]
    sigma = root(backend, m, variance)
    # A norm of zero would pull the mean to zero, and with it the bound on all that comes after.
    usual = m.isfinite(norm) & (norm > 0)
    known = mean > 0
    warming = (count < int(warmup)) | m.logical_not(known)
    z = (norm - mean) / (sigma + eps)
    spike = usual & m.logical_not(warming) & (z > z_threshold)
    target = mean + (sigma * reach) / m.where(spike, z, m.full_like(z, 1.0))
    taken = m.where(spike, target, m.where(usual, norm, mean))
    number = m.where(known, seen, m.full_like(seen, 0)) + 1
    sample_mean, sample_variance = _of_sample(m, mean, variance, taken, real(m, number, mean))
    moving_mean, moving_variance = _moving(m, mean, variance, taken, alpha)
    new_mean = m.where(warming, sample_mean, moving_mean)
    new_variance = m.where(warming, sample_variance, moving_variance)
    # A norm whose square leaves the range would make σ infinite for ever.
    enters = usual & m.isfinite(new_variance)
    cap = m.full_like(mean, most)
    level = mean + times(m, sigma + eps, z_threshold)
    new = {
        "count": count + 1,
        "seen": m.where(enters, seen + 1, seen),
        "mean": m.where(enters, new_mean, mean),
        "variance": m.where(enters, new_variance, variance),
    }
    bound = m.where(spike, m.minimum(target, cap), cap)
    return bound, m.where(warming, cap, m.minimum(level, cap)), new


def _moving(
    m: Namespace, mean: Scalar, variance: Scalar, taken: Scalar, alpha: float
) -> tuple[Scalar, Scalar]:
    """Return the moving averages after one norm more."""
    new = average(m, mean, taken, alpha)
    off = taken - new
    return new, average(m, variance, times(m, off, off), alpha)


def _of_sample(
    m: Namespace, mean: Scalar, variance: Scalar, taken: Scalar, number: Scalar
) -> tuple[Scalar, Scalar]:
    """Return mean and variance of a sample after one norm more (Welford, 1962)."""
    off = taken - mean
    new = mean + off / number
    return new, variance + (times(m, off, taken - new) - variance) / number
