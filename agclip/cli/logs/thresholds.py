"""Thresholds from past norms: which one would have clipped a given share of the steps."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from decimal import ROUND_CEILING, Context, Decimal
from random import Random
from typing import NamedTuple

import agclip
from agclip_backends import DEFAULT

RATES = (1, 5, 10, 25)
"""Shares of clipped steps that thresholds are told for, in percent."""
START = 5
"""The rate to begin with."""
RESAMPLES = 500
SEED = 0
CONFIDENCE = 0.95
LONG = 20_000
"""Norms above which the interval is the limit that the resamples tend to."""

_QUANTILE = 1.959963984540054
"""Of the normal distribution, for the confidence."""
_DIGITS, _EXACT = 4, 17
"""Digits that are shown at least, and those that tell any number."""
_PLAIN = 1e6
"""Numbers from here on are written with an exponent."""
_NEAR = 1e-4
"""How near norms are to a bound they were clipped to: beyond rounding and an epsilon below it."""
_MANY, _SHARE = 5, 0.05
"""How many norms, and which share of all, near the largest are a sign of clipping."""


class Threshold(NamedTuple):
    """A threshold and how certain it is."""

    rate: int
    """Share of the steps that may be clipped, in percent."""
    value: float
    """The smallest recorded norm that no more steps than that exceed."""
    low: float
    high: float
    clipped: int
    """Number of steps whose norm exceeds it."""
    rounded: float
    """The value rounded up, in as few digits as clip exactly these steps."""

    @property
    def shown(self) -> str:
        """The rounded value as text."""
        text = repr(self.rounded).removesuffix(".0")
        return text if self.rounded < _PLAIN else str(Decimal(text).normalize()).lower()


def thresholds(norms: Sequence[float]) -> list[Threshold]:
    """Return the threshold of each rate with its bootstrap interval; none if all norms are 0.

    Norms of 0 are left out: no threshold clips such a step, and one of 0 would clip every other.

    The interval is that of a circular block bootstrap (Politis and Romano, 1992): norms of
    neighbouring steps resemble each other, so blocks of n^(1/3) steps are drawn instead of single
    ones, `RESAMPLES` times with the seed `SEED`. Its ends are percentiles of the thresholds of the
    resampled histories. Above `LONG` norms the number of exceedances in a resample is taken as
    normal, with its exact mean and variance: many blocks are drawn.
    """
    norms = [norm for norm in norms if norm > 0]
    if not norms:
        return []
    ordered = sorted(norms)
    size = len(ordered)
    values = [ordered[_rank(size, rate)] for rate in RATES]
    spans = _limits(norms, ordered, values) if size > LONG else _spans(norms)
    found = []
    for rate, value, (low, high) in zip(RATES, values, spans, strict=True):
        above = bisect_right(ordered, value)
        rounded = _rounded_up(value, ordered[above] if above < size else math.inf)
        found.append(Threshold(rate, value, low, high, size - above, rounded))
    return found


def clipped_before(norms: Sequence[float]) -> tuple[float, int] | None:
    """Return the bound that norms look clipped to, and how many lie at it; None if they do not."""
    largest = max(norms)
    count = sum(norm >= largest * (1 - _NEAR) for norm in norms)
    sign = largest > 0 and count >= max(_MANY, _SHARE * len(norms))
    return (largest, count) if sign else None


def _rank(size: int, rate: int) -> int:
    """Return the place in ascending order that at most `rate` percent of the norms lie above."""
    return size - size * rate // 100 - 1


def _rounded_up(value: float, above: float) -> float:
    """Return the number of fewest digits that is not below one, and below the next norm."""
    for digits in range(_DIGITS, _EXACT):
        context = Context(prec=digits, rounding=ROUND_CEILING)
        rounded = float(context.create_decimal(repr(value)))
        if value <= rounded < above:
            return rounded
    return value


def _block(size: int) -> int:
    return max(1, round(math.cbrt(size)))


def _spans(norms: Sequence[float]) -> list[tuple[float, float]]:
    """Return the interval of each rate, from resampled histories."""
    drawn = _resampled(norms)
    cut = math.ceil((1 - CONFIDENCE) / 2 * RESAMPLES) - 1
    columns = [sorted(row[place] for row in drawn) for place, _ in enumerate(RATES)]
    return [(values[cut], values[-1 - cut]) for values in columns]


def _resampled(norms: Sequence[float]) -> list[list[float]]:
    """Return the thresholds of all rates for every resampled history."""
    xp = agclip.get_backend(DEFAULT).xp
    rng, size = Random(SEED), len(norms)
    length = _block(size)
    values = xp.asarray(norms, dtype=xp.float64)
    offsets = xp.reshape(xp.arange(length), (1, -1))
    drawn = []
    for _ in range(RESAMPLES):
        starts = [rng.randrange(size) for _ in range(math.ceil(size / length))]
        places = xp.reshape(xp.asarray(starts), (-1, 1)) + offsets
        places = xp.reshape(places % size, (-1,))[:size]
        ordered = xp.sort(xp.take(values, places))
        drawn.append([float(ordered[_rank(size, rate)]) for rate in RATES])
    return drawn


def _limits(
    norms: Sequence[float], ordered: Sequence[float], values: Sequence[float]
) -> list[tuple[float, float]]:
    """Return the interval of each rate that the resamples of a long history tend to.

    A resample is of n / L blocks, each begun anywhere with the same probability. Exceedances of a
    value v in it have the mean n·p(v) and the variance n / L · var E(v), of which E are the
    exceedances in one block. The ends are the norms at the ranks that many standard deviations
    beside the threshold (Woodruff, 1952).
    """
    xp = agclip.get_backend(DEFAULT).xp
    size, length = len(norms), _block(len(norms))
    array = xp.asarray(norms, dtype=xp.float64)
    found = []
    for rate, value in zip(RATES, values, strict=True):
        above = xp.astype(array > value, xp.float64)
        sums = xp.cumulative_sum(xp.concat([above, above[:length]]))
        inside = sums[length:] - sums[:-length]
        spread = _QUANTILE * math.sqrt(size / length * float(xp.var(inside)))
        place = _rank(size, rate)
        low = max(0, math.floor(place - spread))
        high = min(size - 1, math.ceil(place + spread))
        found.append((ordered[low], ordered[high]))
    return found
