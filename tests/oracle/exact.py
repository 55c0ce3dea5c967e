"""The reproducible norm as it is defined, computed in fractions: the oracle of its bits.

With m the largest |x|, t a power of two that is 1 unless a float64 m is extreme, and P the smallest
power of two that is not below t·m:

    s_i = (t·x_i)²  for order 2, rounded to float64 for float64 leaves;  t·|x_i|  for order 1
    S   = Σ RN(s_i to a multiple of g),   g = P^order · 2^-D,   D = 64, or 96 if a leaf is float64
    n   = sqrt(S) / t  for order 2;  S / t  for order 1

S / g is an integer. It becomes a float64 in two roundings, of the bits from 2**52 up and then of
the whole; the root and the quotient are rounded once each. Nothing here says how the sum is formed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple


class Exact(NamedTuple):
    """A norm by its definition.

    Attributes:
        root: The norm times the scale.
        scale: t.
        value: root / scale as a float64.
        integer: S / g; 0 for a norm that is zero or not finite.
    """

    root: float
    scale: float
    value: float
    integer: int


def exact_norm(values: Iterable[complex], wide: bool, order: int) -> Exact:
    """Return the norm of numbers, in whatever leaves and order they are.

    Args:
        values: The entries of all leaves; of complex ones both parts count.
        wide: Whether a leaf is float64 or complex128.
        order: 1 or 2.
    """
    entries = [part for x in values for part in _parts(x)]
    if any(map(math.isnan, entries)):
        return Exact(math.nan, 1.0, math.nan, 0)
    peak = max(map(abs, entries), default=0.0)
    if peak == 0 or math.isinf(peak):
        return Exact(peak, 1.0, peak, 0)
    scale = _scale(peak) if wide else 1.0
    grid = _next_power(peak * scale) ** order / 2 ** (96 if wide else 64)
    integer = sum(round(_summand(x * scale, wide, order) / grid) for x in entries)
    total = float(Fraction(_rounded(integer)) * grid)
    root = math.sqrt(total) if order == 2 else total
    return Exact(root, scale, root / scale, integer)


def _parts(x: complex) -> tuple[float, ...]:
    return (x.real, x.imag) if isinstance(x, complex) else (float(x),)


def _scale(peak: float) -> float:
    if peak >= 2.0**480:
        return 2.0**-600
    return 2.0**620 if peak < 2.0**-450 else 1.0


def _next_power(x: float) -> Fraction:
    """Return the smallest power of two that is not below x > 0."""
    mantissa, exponent = math.frexp(x)
    return Fraction(2) ** (exponent - (mantissa == 0.5))


def _summand(x: float, wide: bool, order: int) -> Fraction:
    if order == 1:
        return abs(Fraction(x))
    square = Fraction(x) ** 2
    return Fraction(float(square)) if wide else square


def _rounded(integer: int) -> float:
    high = float(integer >> 52 << 52)
    return float(int(high) + integer % 2**52)
