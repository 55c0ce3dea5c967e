"""Clipping entry by entry, in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

from oracle.group import Treatment
from oracle.tensor import Exact, Real, Tensor, broadcast, real, real_product, tensor


def clip_by_value(
    t: Tensor,
    clip_value_min: Real | Tensor | None,
    clip_value_max: Real | Tensor | None,
    *,
    limits: tuple[int, int] | None = None,
    loss_scale: Real = 1,
) -> Tensor:
    """Clip each entry: ``max(min(x, hi), lo)``, so that lo wins where ``lo > hi``.

    Args:
        t: Real entries of any kind; NaN stays NaN.
        clip_value_min: lo, a number or a tensor that broadcasts to `t`; None means no bound.
        clip_value_max: hi, likewise.
        limits: The range of an integer dtype; bounds outside it are moved to its ends.
        loss_scale: Divided out of the entries before they meet the bounds.
    """
    unscaling = Treatment(loss_scale=loss_scale).unscaling
    lows = _bounds(clip_value_min, t.shape, limits)
    highs = _bounds(clip_value_max, t.shape, limits)
    entries = [real_product(real(x), unscaling) for x in t.values]
    return Tensor(t.shape, tuple(map(_clamp, entries, lows, highs)))


def _bounds(
    bound: Real | Tensor | None, shape: tuple[int, ...], limits: tuple[int, int] | None
) -> list[Real | None]:
    """Return the bound of each entry."""
    if bound is None:
        return [None] * math.prod(shape)
    whole = broadcast(bound if isinstance(bound, Tensor) else tensor(bound), shape)
    bounds = [real(b) for b in whole.values]
    return [_clamp(b, *limits) for b in bounds] if limits else list(bounds)


def _clamp(x: Real, lo: Real | None, hi: Real | None) -> Exact:
    if any(isinstance(v, float) and math.isnan(v) for v in (x, lo, hi)):
        return math.nan
    if hi is not None and x > hi:
        x = hi
    if lo is not None and x < lo:
        x = lo
    return real_product(x, Fraction(1))
