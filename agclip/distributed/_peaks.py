"""A maximum that travels in a sum: the grid of the reproducible norm, in the default's vector.

A peak is told as finely as a grid looks at it: between which two powers of two it lies, or which
one it is. Such steps are counted from the least to NaN, and so many of them share a number, in
which the step k is 2**(17k): of fewer than 2**17 of these the sum tells the largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_DIGIT = 17
_STEPS = 116
"""Of one number, which is from 2**-1000 to 2**972."""
_OFFSET = -1000
_HALF = 0.5
"""The fraction of a power of two."""
_LEAST = -2 * 1073
"""The step of 2**-1074, the least float64."""
_INFINITE, _NAN = 2 * 1025, 2 * 1025 + 1
COUNT = -(-(_NAN - _LEAST + 1) // _STEPS)
"""How many numbers tell a peak."""


def told(peak: float) -> list[float]:
    """Return a peak >= 0, or NaN, as numbers that can be added up."""
    found = [0.0] * COUNT
    if peak != 0:
        number, step = divmod(_step(peak) - _LEAST, _STEPS)
        found[number] = math.ldexp(1.0, _OFFSET + _DIGIT * step)
    return found


def largest(numbers: Sequence[float]) -> float:
    """Return a number that has the grid of the largest peak in a sum, or is it."""
    for number in range(COUNT - 1, -1, -1):
        if numbers[number] != 0:
            step = (math.frexp(numbers[number])[1] - 1 - _OFFSET) // _DIGIT
            return _peak(_LEAST + _STEPS * number + step)
    return 0.0


def _step(peak: float) -> int:
    if peak != peak:
        return _NAN
    if peak == math.inf:
        return _INFINITE
    fraction, exponent = math.frexp(peak)
    return 2 * exponent + (fraction > _HALF)


def _peak(step: int) -> float:
    if step == _NAN:
        return math.nan
    if step == _INFINITE:
        return math.inf
    exponent, between = divmod(step, 2)
    return math.ldexp(0.75 if between else _HALF, exponent)
