"""A norm as a record, and the ranges in which one can be computed directly."""

from __future__ import annotations

from typing import NamedTuple

from agclip._typing import Scalar


class Norm(NamedTuple):
    """The norm `root / scale`: it exists even where its value leaves the range of the dtype."""

    root: Scalar
    scale: Scalar
    """A power of two: 1, `Range.down` or `Range.up`."""
    finite: Scalar
    """Whether every element is finite."""
    error: float = 0.0
    """A bound on the relative error of a root that the rounding test has to look at; else 0."""


class Range(NamedTuple):
    """Where a sum of squares can be trusted, and how to scale the elements where it cannot.

    Attributes:
        low: With S >= low the squares that underflowed are below 2**-60 of S, for fewer than 2**62
            elements.
        down: The scale if S = inf: some |x| > sqrt(max / n) then, so the scaled squares can neither
            overflow nor all vanish.
        up: The scale if S < low: every |x| < sqrt(low) then, so the scaled squares do not overflow,
            and that of the smallest subnormal is normal.
        tiny: Triples (l, r, p): a coefficient q with q·l < r is multiplied in two steps, first by
            the power of two p, so that both factors are normal numbers and no intermediate result
            loses bits that the final one has.
        huge: Likewise for q·l > r, which a loss scale far below one leads to.
        middle: A triple (l, h, p): numbers below l are multiplied by the power of two p and numbers
            above h divided by it, so that a product of two neither overflows nor underflows.
    """

    low: float
    down: float
    up: float
    tiny: tuple[tuple[float, float, float], tuple[float, float, float]]
    huge: tuple[tuple[float, float, float], tuple[float, float, float]]
    middle: tuple[float, float, float]


RANGES = {
    "float64": Range(
        low=2.0**-900,
        down=2.0**-600,
        up=2.0**620,
        tiny=((1.0, 2.0**-900, 2.0**-600), (2.0**800, 2.0**-800, 2.0**-1022)),
        huge=((1.0, 2.0**800, 2.0**600), (2.0**-700, 2.0**900, 2.0**1000)),
        middle=(2.0**-400, 2.0**400, 2.0**600),
    ),
    "float32": Range(
        low=2.0**-60,
        down=2.0**-70,
        up=2.0**88,
        tiny=((1.0, 2.0**-100, 2.0**-64), (2.0**80, 2.0**-100, 2.0**-126)),
        huge=((1.0, 2.0**60, 2.0**40), (2.0**-60, 2.0**90, 2.0**120)),
        middle=(2.0**-30, 2.0**30, 2.0**90),
    ),
}
