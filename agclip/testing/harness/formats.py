"""Floating-point formats, and how far a number is from the exact one."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

Exact = Fraction | float
"""An exact number; a float only for NaN, the infinities and the zero with a minus sign."""


class Format(NamedTuple):
    """A binary floating-point format of IEEE 754, or bfloat16.

    Attributes:
        precision: Bits of the significand, the hidden one included.
        smallest: Exponent of the smallest normal number.
        largest: Exponent of the largest power of two.
    """

    precision: int
    smallest: int
    largest: int

    @property
    def smallest_normal(self) -> float:
        """Return the smallest normal number."""
        return math.ldexp(1.0, self.smallest)

    @property
    def smallest_subnormal(self) -> float:
        """Return the smallest number above zero."""
        return math.ldexp(1.0, self.smallest - self.precision + 1)


FORMATS = {
    "float16": Format(11, -14, 15),
    "bfloat16": Format(8, -126, 127),
    "float32": Format(24, -126, 127),
    "float64": Format(53, -1022, 1023),
}
FORMATS["complex64"] = FORMATS["float32"]
FORMATS["complex128"] = FORMATS["float64"]


def ulp(exact: Fraction, dtype: str) -> Fraction:
    """Return the distance between neighbouring numbers of a dtype at an exact number."""
    form = FORMATS[dtype]
    exponent = form.smallest
    if exact:
        above, below = abs(exact.numerator), exact.denominator
        exponent = above.bit_length() - below.bit_length()
        if abs(exact) < Fraction(2) ** exponent:
            exponent -= 1
    exponent = min(max(exponent, form.smallest), form.largest)
    return Fraction(2) ** (exponent - form.precision + 1)


def error(got: float, exact: Exact, dtype: str) -> Exact:
    """Return an error in units in the last place: 0 for the same NaN or infinity, else infinite."""
    if not (math.isfinite(got) and math.isfinite(exact)):
        return Fraction(0) if repr(got) == repr(float(exact)) else math.inf
    return abs(Fraction(got) - Fraction(exact)) / ulp(Fraction(exact), dtype)


def parts(number: Any) -> tuple[Any, ...]:
    """Return the real and imaginary parts of a complex number, or a real one alone."""
    return (number.real, number.imag) if isinstance(number, complex) else (number,)
