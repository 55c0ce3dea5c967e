"""Rounding of exact numbers to floating-point formats, and errors in units in the last place.

Formats are IEEE 754 binary formats, bfloat16, and the two common 8-bit floats (Micikevicius et al.
2022, arXiv:2209.05433).  Rounding is to nearest, ties to even, with subnormal numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from oracle.tensor import Exact, Real, Tensor


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format.

    Attributes:
        precision: Bits of the significand, the hidden one included.
        smallest: Exponent of the smallest normal number, which is ``2**smallest``.
        largest: The largest finite number.
        overflow: What lies beyond `largest` becomes: inf, or NaN in a format without infinities.
    """

    precision: int
    smallest: int
    largest: Fraction
    overflow: float = math.inf


def _format(precision: int, exponent: int) -> Format:
    """Return the IEEE 754 format whose exponents go from ``1 - exponent`` to ``exponent``."""
    largest = (2 - Fraction(2) ** (1 - precision)) * Fraction(2) ** exponent
    return Format(precision, 1 - exponent, largest)


FORMATS = {
    "float16": _format(11, 15),
    "bfloat16": _format(8, 127),
    "float32": _format(24, 127),
    "float64": _format(53, 1023),
    "float8_e5m2": _format(3, 15),
    "float8_e4m3fn": Format(4, -6, Fraction(448), overflow=math.nan),
}
"""The formats by their usual dtype names."""


def _find(dtype: str) -> Format:
    if dtype not in FORMATS:
        msg = f"`dtype` must be one of {', '.join(FORMATS)}; got {dtype!r}."
        raise ValueError(msg)
    return FORMATS[dtype]


def exponent(q: Fraction) -> int:
    """Return the whole number e with ``2**e <= |q| < 2**(e + 1)``, for q other than 0."""
    above, below = abs(q.numerator), q.denominator
    guess = above.bit_length() - below.bit_length()
    fits = above >= below << guess if guess >= 0 else above << -guess >= below
    return guess if fits else guess - 1


def _spacing(q: Fraction, kind: Format) -> int:
    """Return the exponent of the distance between neighbours at `q`, with no upper end."""
    lowest = kind.smallest if q == 0 else max(exponent(q), kind.smallest)
    return lowest - kind.precision + 1


def ulp(q: Real, dtype: str) -> Fraction:
    """Return the distance between neighbouring numbers of `dtype` at the finite number `q`.

    Below the normal range it is the smallest subnormal number; beyond the largest number it stays
    what it is there.  At a power of two it is the distance upwards.
    """
    kind = _find(dtype)
    return Fraction(2) ** _spacing(min(abs(Fraction(q)), kind.largest), kind)


def round_to(q: Real, dtype: str) -> float:
    """Round a number to the nearest one of `dtype`, ties to even.

    Args:
        q: The number. NaN, infinities and the sign of a zero pass through.
        dtype: A name in `FORMATS`.

    Returns:
        The rounded number as a float; what is too large becomes inf, or NaN in float8_e4m3fn.
    """
    kind = _find(dtype)
    if isinstance(q, float) and (q == 0 or not math.isfinite(q)):
        return math.copysign(kind.overflow, q) if math.isinf(q) else q
    exact = Fraction(q)
    spacing = _spacing(exact, kind)
    steps = round(abs(exact) / Fraction(2) ** spacing)
    overflows = steps * Fraction(2) ** spacing > kind.largest
    size = kind.overflow if overflows else math.ldexp(steps, spacing)
    return -size if exact < 0 else size


def ulps(got: Real, exact: Real, dtype: str) -> Exact:
    """Return the error of a computed number in units in the last place of the exact one.

    Args:
        got: The computed number.
        exact: The exact number.
        dtype: The format in which `got` was computed.

    Returns:
        ``|got - exact| / ulp(exact)``. If either is not finite: 0 where `got` is of the same kind
        as `exact`, or as `exact` rounded to `dtype`; inf otherwise.
    """
    rounded = round_to(exact, dtype)
    if not math.isfinite(got):
        same = math.isnan(got) and math.isnan(rounded)
        return Fraction(0) if same or got in (exact, rounded) else math.inf
    if isinstance(exact, float) and not math.isfinite(exact):
        return math.inf
    return abs(Fraction(got) - Fraction(exact)) / ulp(exact, dtype)


def worst_ulps(got: Tensor, exact: Tensor, dtype: str) -> Exact:
    """Return the largest error of any entry, the parts of complex ones taken one by one.

    Raises:
        ValueError: The shapes differ.
    """
    if got.shape != exact.shape:
        msg = f"`got` must have the shape {exact.shape}; got {got.shape}."
        raise ValueError(msg)
    worst: Exact = Fraction(0)
    for computed, true in zip(got.values, exact.values, strict=True):
        for part in ("real", "imag"):
            error = ulps(getattr(computed, part), getattr(true, part), dtype)
            worst = error if error > worst else worst
    return worst
