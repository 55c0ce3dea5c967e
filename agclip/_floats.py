"""The few standard calls that the rules make on scalars, for Python floats.

A rule is written once, against a namespace `m`. Where the values of a call can be read for nothing
`m` is this module and its scalars are Python floats; elsewhere `m` is the array library's namespace
and its scalars are 0-d arrays.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable
from typing import SupportsFloat


def where(condition: bool, x1: float, x2: float, /) -> float:
    """Return `x1` if the condition holds, else `x2`."""
    return x1 if condition else x2


def full_like(_: float, value: float, /) -> float:
    """Return `value`: a float has neither shape nor device."""
    return value


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


def float32(x: float) -> float:
    """Return the nearest float32; infinite beyond its range."""
    return ctypes.c_float(x).value


def total(values: Iterable[SupportsFloat]) -> float:
    """Return the sum, rounded once; infinite where it leaves the range."""
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


def power(x: float, exponent: float) -> float:
    """Return `x ** exponent` for x >= 0; infinite where it leaves the range."""
    try:
        return float(x**exponent)
    except OverflowError:
        return math.inf
