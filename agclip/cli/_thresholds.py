"""Thresholds from past norms: which one would have clipped a given share of the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import agclip
from agclip_backends import DEFAULT

RATES = (1, 5, 10, 25)
"""Shares of clipped steps that thresholds are told for, in percent."""
RESAMPLES = 500
SEED = 0
CONFIDENCE = 0.95


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


def thresholds(norms: Sequence[float]) -> list[Threshold]:
    """Return the threshold of each rate with its bootstrap interval.

    The interval is that of a circular block bootstrap (Politis and Romano, 1992): norms of
    neighbouring steps resemble each other, so blocks of n^(1/3) steps are drawn instead of single
    ones, `RESAMPLES` times with the seed `SEED`. Its ends are percentiles of the thresholds of the
    resampled histories.
    """
    ordered = sorted(norms)
    drawn = _resampled(norms)
    cut = math.ceil((1 - CONFIDENCE) / 2 * RESAMPLES) - 1
    found = []
    for place, rate in enumerate(RATES):
        value = ordered[_rank(len(norms), rate)]
        values = sorted(row[place] for row in drawn)
        clipped = sum(norm > value for norm in norms)
        found.append(Threshold(rate, value, values[cut], values[-1 - cut], clipped))
    return found


def _rank(size: int, rate: int) -> int:
    """Return the place in ascending order that at most `rate` percent of the norms lie above."""
    return size - size * rate // 100 - 1


def _resampled(norms: Sequence[float]) -> list[list[float]]:
    """Return the thresholds of all rates for every resampled history."""
    xp = agclip.get_backend(DEFAULT).xp
    rng, size = Random(SEED), len(norms)
    length = max(1, round(size ** (1 / 3)))
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
