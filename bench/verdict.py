"""Whether one revision is slower than another: ratios of rounds, and what noise does to them.

A round times two revisions one after the other, so its quotient is free of what changes between
rounds. The median of the quotients gets a bootstrap interval; the same is done with one revision
against itself, and three times as far from 1 as that interval reaches is still called noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Rounds = Sequence[Mapping[str, float]]
"""Seconds of a call by name of the benchmark, round after round."""

LEAST = 1.25
"""The ratio that is always allowed."""
NOISE = 3.0
"""How many times as far as the noise, on a logarithmic scale, is allowed."""
FLOOR = 5e-6
"""Seconds of a call that never count."""
_RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Interval:
    """The median of ratios, and the 95 % bootstrap interval around it."""

    median: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """Return the end that is farther from 1, as a factor of at least 1."""
        return max(self.high, 1 / self.low, 1.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a benchmark.

    Attributes:
        name: Its name.
        ratio: Head ÷ base.
        noise: Base ÷ base.
        lost: The median of head − base, in seconds.
    """

    name: str
    ratio: Interval
    noise: Interval
    lost: float

    @property
    def allowed(self) -> float:
        """Return the ratio beyond which head is slower."""
        return max(LEAST, float(self.noise.reach**NOISE))

    @property
    def slower(self) -> bool:
        """Tell whether head is slower for certain, and by enough to matter."""
        return self.ratio.low > self.allowed and self.lost >= FLOOR


def judge(base: Rounds, again: Rounds, head: Rounds) -> list[Verdict]:
    """Return a verdict on each benchmark that all rounds have.

    Args:
        base: Times of the base revision.
        again: Times of the same revision, measured once more in the same rounds.
        head: Times of the head revision.
    """
    names = [name for name in base[0] if all(name in r for r in (*base, *again, *head))]
    return [
        _verdict(name, *(_column(rounds, name) for rounds in (base, again, head))) for name in names
    ]


def _verdict(name: str, base: np.ndarray, again: np.ndarray, head: np.ndarray) -> Verdict:
    lost = float(np.median(head - base))
    return Verdict(name, interval(head / base), interval(again / base), lost)


def _column(rounds: Rounds, name: str) -> np.ndarray:
    return np.array([times[name] for times in rounds])


def interval(ratios: Sequence[float] | np.ndarray) -> Interval:
    """Return the median of ratios and its bootstrap interval, the same at every call."""
    found = np.asarray(ratios, np.float64)
    draws = np.random.default_rng(0).integers(found.size, size=(_RESAMPLES, found.size))
    low, high = np.quantile(np.median(found[draws], axis=1), (0.025, 0.975))
    return Interval(float(np.median(found)), float(low), float(high))
