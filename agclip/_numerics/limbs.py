"""The sum behind the reproducible norm as numbers that travel: exact for any number of ranks.

The integer in units of the grid goes as six limbs of 26 bits, of which 2**27 can be added in
float64. Where a leaf is held by several ranks each of them sends its part of the integer, and what
the division leaves over beside it: the sum of these is a whole number again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agclip._backends import host_scalars
from agclip._backends.backend import Backend
from agclip._backends.contract import Grid
from agclip._numerics.exact import (
    grid_of,
    grid_of_array,
    limbs_of,
    rounded,
    rounded_integer,
    split,
    sums_of_all,
)
from agclip._numerics.ranges import Norm
from agclip._typing import Array, DType, Namespace, Scalar

COUNT = 7
"""The limbs, the lowest first, and what is left over."""
_BITS = 26


def grid_from(m: Namespace, peak: Scalar, order: int, bits: int) -> Grid:
    """Return what elements are measured with; anything where there is nothing to measure."""
    ordinary = m.where(m.isfinite(peak) & (peak > 0), peak, m.full_like(peak, 1.0))
    if m is host_scalars:
        return grid_of(ordinary, order, bits)
    return grid_of_array(m, ordinary, order, bits)


def of_floats(
    backend: Backend, leaves: Sequence[Array], acc_dtype: DType, grid: Grid, often: int
) -> list[Scalar]:
    """Return the sum of leaves that can be read for nothing, divided by a number of replicas."""
    integer = backend.exact_sum(backend.xp, leaves, acc_dtype, grid)
    integer, left = divmod(integer, often)
    return [*(float(integer >> _BITS * k & 2**_BITS - 1) for k in range(6)), left / often]


def of_arrays(
    backend: Backend, leaves: Sequence[Array], acc_dtype: DType, grid: Grid, often: int
) -> list[Scalar]:
    """Return the same in arrays."""
    xp = backend.xp
    limbs: list[Scalar] = []
    for limb in limbs_of(xp, sums_of_all(backend, leaves, acc_dtype, grid), grid):
        high, low = split(xp, limb, _BITS)
        limbs += [low, high]
    left = xp.zeros_like(limbs[0])
    if often == 1:
        return [*limbs, left]
    for k in range(5, -1, -1):
        x = limbs[k] + left * 2.0**_BITS
        limbs[k] = xp.floor(x / often)
        left = x - limbs[k] * often
    return [*limbs, left / often]


def norm(backend: Backend, m: Namespace, sums: Sequence[Scalar], grid: Grid, peak: Scalar) -> Norm:
    """Return the norm from the sums of all ranks' limbs, and the peak of all."""
    finite = m.isfinite(peak)
    ordinary = finite & (peak > 0)
    if m is host_scalars:
        value = _of_integer(sums, grid) if ordinary else peak
        return Norm(math.sqrt(value) if ordinary and grid.order > 1 else value, grid.scale, finite)
    *limbs, left = sums
    carry, digits = m.floor(left + 0.5), []
    for limb in limbs:
        carry, digit = split(m, limb + carry, _BITS)
        digits.append(digit)
    digits[5] = digits[5] + carry * 2.0**_BITS
    three = [digits[k] + digits[k + 1] * 2.0**_BITS for k in (4, 2, 0)]
    value = m.where(ordinary, rounded(three, grid.unit, grid.bits), m.full_like(peak, 1.0))
    if grid.order > 1:
        value = backend.sqrt(m, value)
    return Norm(m.where(ordinary, value, peak), grid.scale, finite)


def _of_integer(sums: Sequence[float], grid: Grid) -> float:
    *limbs, left = sums
    return rounded_integer(
        round(left) + sum(int(limb) << _BITS * k for k, limb in enumerate(limbs)), grid
    )
