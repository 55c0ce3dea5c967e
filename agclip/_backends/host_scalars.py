"""The few standard calls that the rules make on scalars, for Python floats.

A rule is written once, against a namespace `m`. Where the values of a call can be read for nothing
`m` is this module and its scalars are Python floats; elsewhere `m` is the array library's namespace
and its scalars are 0-d arrays.
"""

from __future__ import annotations

import ctypes
import decimal
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import SupportsFloat

# The exponent of a float by itself would be rounded: 1 / 3 is off by enough to move a root of 1e7
# by three units in the last place.
_DECIMAL = decimal.Context(prec=40, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)


def where(condition: bool, x1: float, x2: float, /) -> float:
    """Return `x1` if the condition holds, else `x2`."""
    return x1 if condition else x2


def full_like(_: float, value: float, /) -> float:
    """Return `value`: a float has neither shape nor device."""
    return value


def equal(x1: float, x2: float, /) -> bool:
    """Tell whether two floats are equal (`==` of some libraries asks for identity)."""
    return x1 == x2


def not_equal(x1: float, x2: float, /) -> bool:
    """Tell whether two floats differ."""
    return x1 != x2


def logical_not(x: bool, /) -> bool:
    """Return the negation (`~` of a Python bool is an integer)."""
    return not x


def isfinite(x: float, /) -> bool:
    """Tell whether `x` is neither NaN nor infinite."""
    return math.isfinite(x)


def sqrt(x: float, /) -> float:
    """Return the correctly rounded square root."""
    return math.sqrt(x)


def maximum(x1: float, x2: float, /) -> float:
    """Return the larger of two floats, NaN if one of them is."""
    return x1 if x1 != x1 or x1 >= x2 else x2


def minimum(x1: float, x2: float, /) -> float:
    """Return the smaller of two floats, NaN if one of them is."""
    return x1 if x1 != x1 or x1 <= x2 else x2


def float32(x: float) -> float:
    """Return the nearest float32; infinite beyond its range."""
    return ctypes.c_float(x).value


def total(values: Iterable[SupportsFloat]) -> float:
    """Return the sum, rounded once; infinite where it leaves the range.

    Example:
        >>> float_total([1e16, 1.0, -1e16])
        1.0
    """
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


def largest(values: Iterable[SupportsFloat]) -> float:
    """Return the largest number, NaN if one is; 0 of none."""
    floats = [float(value) for value in values]
    return math.nan if any(map(math.isnan, floats)) else max(floats, default=0.0)


def log(x: float, /) -> float:
    """Return the natural logarithm of x > 0."""
    return math.log(x)


def power(x: float, exponent: float) -> float:
    """Return `x ** exponent` for x >= 0; infinite where it leaves the range."""
    try:
        return float(x**exponent)
    except OverflowError:
        return math.inf


def root(x: float, degree: float) -> float:
    """Return the correctly rounded `x ** (1 / degree)` for x > 0; infinite beyond the range."""
    if not math.isfinite(x):
        return x
    return float(_DECIMAL.exp(_DECIMAL.divide(_DECIMAL.ln(Decimal(x)), Decimal(degree))))
