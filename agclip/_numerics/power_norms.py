"""Norms of any order from sums of powers: the units that elements are measured in, and the root."""

from __future__ import annotations

import math
from fractions import Fraction

from agclip._backends import host_scalars, powers
from agclip._backends.dtypes import kind_of
from agclip._backends.kernels import scaled
from agclip._numerics.ranges import RANGES, Norm
from agclip._typing import DType, Namespace, Scalar

_STEEP = 64
"""The order up to which powers of numbers from a half to one are far from the end of the range."""


def power_scale(m: Namespace, peak: Scalar, acc_dtype: DType) -> Scalar:
    """Return the power of two that brings the largest element to the middle of the range."""
    limits = RANGES[kind_of(acc_dtype).name]
    small = m.where(peak < limits.up**-0.5, limits.up, m.full_like(peak, 1.0))
    return m.where(peak > limits.down**-0.5, limits.down, small)


def unit_of(m: Namespace, peak: Scalar, scale: Scalar, order: float, acc_dtype: DType) -> Scalar:
    """Return what elements are divided by, so that their powers stay in the range.

    A power of two, with which nothing is rounded, or the largest element where the powers of
    numbers between a half and one could vanish. Magnitudes themselves need none.
    """
    if order == 1:
        return 1.0
    ordinary = (peak < math.inf) & (peak > 0)
    largest = scaled(m.where(ordinary, peak, 1.0), scale)
    if order > _STEEP:
        return largest
    return powers.next_power(m, largest, kind_of(acc_dtype).precision)


def power_root(
    m: Namespace,
    total_: Scalar,
    peak: Scalar,
    unit: Scalar,
    scale: Scalar,
    order: float,
    *,
    closely: bool,
) -> Norm:
    positive = total_ > 0
    base = m.where(positive, total_, 1.0)
    root = base if order in (1, math.inf) else _root_of(m, base, order, closely=closely)
    finite = peak < math.inf
    root = m.where(finite, m.where(positive, root * unit, total_), peak)
    return Norm(root, scale, finite)


def _root_of(m: Namespace, base: Scalar, order: float, *, closely: bool) -> Scalar:
    """Return base^(1/order), with what rounding 1/order does to it taken back."""
    exponent = 1.0 / order
    if m is host_scalars:
        return host_scalars.root(base, order) if closely else host_scalars.power(base, exponent)
    rest = 1 / Fraction(order) - Fraction(exponent)
    lost = rest.numerator / rest.denominator  # what `float` gives: Dynamo has it not (PyTorch 2.11)
    root = base**exponent
    return root + m.where(root < math.inf, root, 0.0) * (lost * m.log(base))
