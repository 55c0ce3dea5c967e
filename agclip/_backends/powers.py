"""Sums whose roundings do not add up, in whatever order a library forms them.

With S a first, plain sum of numbers y_i >= 0 and P a power of two that is not below it, adding and
subtracting A = 3·P cuts every y_i into a multiple of the spacing at A and a rest:

    q_i = (y_i + A) - A,   r_i = y_i - q_i       both exact
    Σ y_i = Σ q_i + Σ r_i

The q_i sum to no more than the significant bits hold, so they are added without rounding in any
order; what rounding does to the rests is far below the last place of the sum (S. M. Rump,
T. Ogita, S. Oishi, "Accurate floating-point summation part I: faithful rounding", SIAM J. Sci.
Comput. 31, 2008, with the anchor at the sum instead of the largest term).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agclip._backends import host_scalars, kernels, shapes
from agclip._backends.dtypes import Kind, kind_of, narrower
from agclip._typing import Array, DType, Namespace, Scalar


def rounded(kinds: Sequence[Kind], acc_dtype: DType) -> bool:
    """Tell whether the roundings of a sum formed in `acc_dtype` show in a norm of such leaves.

    A norm of float32 and narrower leaves, formed in float64, is rounded to float32 in the end.
    """
    return not all(narrower(kind, kind_of(acc_dtype).name) for kind in kinds)


def next_power(m: Namespace, x: Scalar, precision: int) -> Scalar:
    """Return the smallest power of two >= x > 0, by additions alone (Rump et al., 2008)."""
    q = x * 2.0**precision
    power = abs((q + x) - q)
    return m.where(power <= 0, x, power)


def anchor(m: Namespace, plain: Scalar, precision: int) -> tuple[Scalar, Scalar]:
    """Return whether a plain sum is far enough from the ends of the range, and A for those."""
    ordinary = (plain > 0) & (plain < _beyond(precision))
    return ordinary, 3.0 * next_power(m, m.where(ordinary, plain, 1.0), precision)


def _beyond(precision: int) -> float:
    return 2.0**960 if precision == 53 else 2.0**96


def joined(
    m: Namespace,
    plain: Scalar,
    ordinary: Scalar,
    high: Scalar,
    low: Scalar,
    precision: int,
    *,
    first: bool = True,
) -> Scalar:
    """Return the sum from those of the parts; the plain one near the ends of the range.

    With `first` a plain sum near the upper end is infinite: the caller reads again with another
    scale then, as if it had overflowed.
    """
    if first:
        plain = m.where(plain >= _beyond(precision), math.inf, plain)
    return m.where(ordinary, high + low, plain)


def whole(xp: Namespace, y: Array) -> Array:
    """Return the sum of all elements of an array of numbers >= 0.

    Example:
        >>> float(accurate_sum(np, np.asarray([1.0, 2.0**-53, 2.0**-53]))) - 1.0 == 2.0**-52
        True
    """
    precision = kind_of(y.dtype).precision
    plain = xp.sum(y)
    ordinary, a = anchor(xp, plain, precision)
    q = (y + a) - a
    return joined(xp, plain, ordinary, xp.sum(q), xp.sum(y - q), precision)


def power_sums(
    xp: Namespace, leaves: Sequence[Array], acc_dtype: DType, p: float, scale: Scalar, unit: Scalar
) -> Sequence[Scalar]:
    """Return Σ (scale·|x| / unit)^p in `acc_dtype` for each leaf; for p = inf the maximum.

    Example:
        >>> [float(x) for x in power_sums(np, [np.asarray([1.0, -2.0])], np.float64, 3, 1.0, 1.0)]
        [9.0]
    """
    closely = rounded([kind_of(leaf.dtype) for leaf in leaves], acc_dtype)
    sums = []
    for leaf in leaves:
        y = kernels.magnitudes(xp, leaf, acc_dtype, scale, unit)
        if p == math.inf:
            sums.append(kernels.peak(xp, y))
        else:
            powers = kernels.power(xp, y, p)
            sums.append(whole(xp, powers) if closely else xp.sum(powers))
    return sums


def power_sums_in_pieces(
    xp: Namespace,
    leaves: Sequence[Array],
    acc_dtype: DType,
    p: float,
    scale: Scalar,
    unit: Scalar,
    size: int,
) -> Sequence[float]:
    """Return the same as floats, of leaves that can be read for nothing, a piece at a time.

    Example:
        >>> leaves = [np.asarray([1.0, -2.0])]
        >>> power_sums_in_pieces(np, leaves, np.float64, 3, 1.0, 1.0, size=1024)
        [9.0]
    """
    closely = rounded([kind_of(leaf.dtype) for leaf in leaves], acc_dtype)
    results = []
    for leaf in leaves:
        sums: list[float] = []
        for piece in shapes.pieces(leaf, size):
            y = kernels.magnitudes(xp, piece, acc_dtype, scale, unit)
            if p == math.inf:
                sums.append(float(kernels.peak(xp, y)))
            else:
                sums += _parts(xp, kernels.power(xp, y, p), closely=closely)
        results.append(host_scalars.largest(sums) if p == math.inf else host_scalars.total(sums))
    return results


def _parts(xp: Namespace, y: Array, *, closely: bool) -> list[float]:
    plain = float(xp.sum(y))
    ordinary, a = anchor(host_scalars, plain, 53)
    if not (closely and ordinary):
        return [plain]
    q = (y + a) - a
    return [float(xp.sum(q)), float(xp.sum(y - q))]
