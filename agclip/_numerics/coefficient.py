"""From a norm and a bound to the coefficient: 0-d arithmetic, no library named, none needed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from agclip._backends import host_scalars
from agclip._backends.contract import Factor
from agclip._backends.dtypes import Kind, kind_named
from agclip._backends.kernels import is_one, scaled
from agclip._numerics.ranges import RANGES, Norm
from agclip._typing import Namespace, NonFinite, Scalar

STRICT_MARGIN = {"float64": 1.0 - 2.0**-50, "float32": 1.0 - 2.0**-20}
_TINY_FLOAT32 = [(right / left, power) for left, right, power in RANGES["float32"].tiny]
_LARGEST = {name: kind_named(name).largest for name in RANGES}


_BY_ONE = Factor(narrow=(None, 1.0), wide=(None, 1.0))


class Decision(NamedTuple):
    """What happens to a group, or to each slice of a leaf."""

    exceeds: Scalar
    """Whether the group exceeds its bound, or is not finite and the policy acts on that."""
    applies: Scalar
    """Whether anything is multiplied: the limit is exceeded, or there is a loss scale."""
    factor: Factor
    finite: Scalar
    """Whether the norm was finite."""
    limit: Scalar
    """What the root was compared with."""


class DecisionOptions(NamedTuple):
    """What a decision depends on besides its numbers."""

    acc_dtype: str
    """The name of the dtype of the norm."""
    narrow: bool
    """Whether every leaf is so narrow that the norm comes without a scale: see `narrower`."""
    shrink: float
    """Factor on the bound in the coefficient, a little below one for a strict bound."""
    policy: NonFinite
    """What becomes of a group that is not finite."""


def decide(
    m: Namespace, norm: Norm, bound: Scalar, loss_scale: Scalar | None, terms: DecisionOptions
) -> Decision:
    """Compare a norm with its bound, and return the coefficient of the group.

    With N the norm of what came in, c the bound and L the loss scale, the coefficient is c/N if
    N > c·L, else 1/L: what goes out is divided by L in the same multiplication.

    Args:
        m: `_backends.host_scalars` or the namespace.
        norm: The norm of the group as it came in, still multiplied by the loss scale.
        bound: c >= 0, in units of the unscaled gradient. NaN gives NaN.
        loss_scale: L > 0, or None for one.
        terms: What else there is to know.
    """
    root, scale, finite, _ = norm
    limit = _limit(m, bound, loss_scale, scale, terms)
    over = m.logical_not(root <= limit)
    clipped = over & finite
    pre, rest = _quotient(m, bound, loss_scale, scale, root, clipped, terms)
    if terms.policy in ("propagate", "error"):
        rest = m.where(finite, rest, math.nan)
    exceeds = clipped if terms.policy == "skip" else over | m.logical_not(finite)
    applies = exceeds if loss_scale is None else exceeds | m.logical_not(exceeds)
    factor = _factor(m, pre, rest, terms.acc_dtype, divided=loss_scale is not None)
    return Decision(exceeds, applies, factor, finite, limit)


def decide_floats(
    norm: Norm, bound: float, loss_scale: float | None, terms: DecisionOptions
) -> Decision:
    """Do the same with floats.

    A norm without a scale, in float64 without a loss scale, is the case of almost every call on the
    host: a function call for each operation would be most of the time that a small tree takes.
    """
    if loss_scale is not None or not terms.narrow or terms.acc_dtype != "float64":
        return decide(host_scalars, norm, bound, loss_scale, terms)
    root, _, finite, _ = norm
    limit = bound * STRICT_MARGIN["float64"] if terms.shrink < 1.0 else bound
    over = not root <= limit
    rest = 1.0
    if over and finite:
        rest = bound / root * terms.shrink
    elif not finite and terms.policy in ("propagate", "error"):
        rest = math.nan
    exceeds = over and finite if terms.policy == "skip" else over or not finite
    if rest == 1.0:
        return Decision(exceeds, exceeds, _BY_ONE, finite, limit)
    power = 1.0
    for end, smaller in _TINY_FLOAT32:
        power = smaller if rest < end else power
    narrow = (None, rest) if power == 1.0 else (power, rest / power)
    return Decision(exceeds, exceeds, Factor(narrow=narrow, wide=(None, rest)), finite, limit)


def _limit(
    m: Namespace, bound: Scalar, loss_scale: Scalar | None, scale: Scalar, terms: DecisionOptions
) -> Scalar:
    """Return c·L·scale, with which the root is compared."""
    # A strict bound holds for the exact norm, which may lie a little above the computed one.
    margin = STRICT_MARGIN[terms.acc_dtype] if terms.shrink < 1.0 else 1.0
    if loss_scale is None:
        return scaled(scaled(bound, margin), scale)
    if terms.narrow and is_one(scale):
        # Roots of such leaves are far from the ends of the range.
        return scaled(bound * loss_scale, margin)
    (first, power), (second, other) = (
        in_the_middle(m, x, terms.acc_dtype) for x in (bound, loss_scale)
    )
    return times_powers(m, scaled(first * second, margin), power, other, scale)


def in_the_middle(m: Namespace, x: Scalar, acc_dtype: str) -> tuple[Scalar, Scalar]:
    """Return x as a number in the middle of the range times a power of two."""
    low, high, power = RANGES[acc_dtype].middle
    one = m.full_like(x, 1.0)
    outside = m.where(x < low, 1.0 / power, m.where(x > high, power, one))
    return x / outside, outside


def times_powers(m: Namespace, x: Scalar, a: Scalar, b: Scalar, c: Scalar) -> Scalar:
    """Return x·a·b·c for powers of two, infinite or zero only where the product is.

    The smallest and the largest go together: where they lie on both sides of one they cancel.
    """
    low, high = m.where(a < b, a, b), m.where(a < b, b, a)
    middle = m.where(c < low, low, m.where(c > high, high, c))
    low, high = m.where(c < low, c, low), m.where(c > high, c, high)
    return x * (low * high) * middle


def _quotient(
    m: Namespace,
    bound: Scalar,
    loss_scale: Scalar | None,
    scale: Scalar,
    root: Scalar,
    clipped: Scalar,
    terms: DecisionOptions,
) -> tuple[Scalar | None, Scalar]:
    """Return c·scale/root, or 1/L where nothing is clipped, as a power of two times a number.

    Neither over- nor underflows. The shrink comes last: a compiler would merge it with a constant
    that the bound ends with.
    """
    direct = terms.narrow and is_one(scale)
    if loss_scale is None:
        above, below = bound, m.where(clipped, root, 1.0)
    else:
        above, below = m.where(clipped, bound, 1.0), m.where(clipped, root, loss_scale)
        scale = scale if is_one(scale) else m.where(clipped, scale, 1.0)
    if direct:
        # Where it underflows it takes all elements of such leaves to zero in any case.
        pre, rest = None, above / below
    else:
        pre, rest = _split(m, above, below, scale, terms.acc_dtype, divided=loss_scale is not None)
    shrunk = scaled(rest, terms.shrink)
    if loss_scale is not None:
        return pre, m.where(clipped, shrunk, rest)
    return pre if pre is None else m.where(clipped, pre, 1.0), m.where(clipped, shrunk, 1.0)


def reciprocal(m: Namespace, loss_scale: Scalar, acc_dtype: str) -> Factor:
    """Return the factor 1/L."""
    one = m.full_like(loss_scale, 1.0)
    pre, rest = _split(m, one, loss_scale, 1.0, acc_dtype, divided=True)
    return _factor(m, pre, rest, acc_dtype, divided=True)


def _split(
    m: Namespace, above: Scalar, below: Scalar, scale: Scalar, acc_dtype: str, *, divided: bool
) -> tuple[Scalar, Scalar]:
    """Return above·scale/below as a power of two times a number that is in the range."""
    limits = RANGES[acc_dtype]
    pre = one = m.full_like(below, 1.0)
    scale = one * scale
    for left, right, power in limits.tiny:
        pre = m.where(above * left < below * (right / scale), power, pre)
    if divided:
        for left, right, power in limits.huge:
            pre = m.where(above * left > below * (right / scale), power, pre)
    # What is left of the scale is multiplied before the division if that makes a number larger
    # that would underflow, or smaller one that would overflow, else after it.
    left_over = scale / pre
    early = (pre < 1.0) | (scale > 1.0)
    if divided:
        early = m.where(pre > 1.0, left_over < 1.0, early)
    before, after = m.where(early, left_over, one), m.where(early, one, left_over)
    return pre, (above * before) / below * after


def _factor(
    m: Namespace, pre: Scalar | None, rest: Scalar, acc_dtype: str, *, divided: bool
) -> Factor:
    """Split the coefficient once more for leaves that are multiplied in float32."""
    pre = None if is_one(pre) else pre
    if divided:
        # What is beyond takes all elements but zero to infinity; zero times infinity would be NaN.
        rest = m.where(rest > _LARGEST[acc_dtype], _LARGEST[acc_dtype], rest)
    if acc_dtype == "float32":
        return Factor(narrow=(pre, rest), wide=(pre, rest))
    coefficient = rest if pre is None else pre * rest
    narrow = m.full_like(rest, 1.0)
    for left, right, power in RANGES["float32"].tiny:
        narrow = m.where(coefficient < right / left, power, narrow)
    if divided:
        for left, right, power in RANGES["float32"].huge:
            narrow = m.where(coefficient > right / left, power, narrow)
    single = coefficient / narrow
    if divided:
        single = m.where(single > _LARGEST["float32"], _LARGEST["float32"], single)
    return Factor(narrow=(None if is_one(narrow) else narrow, single), wide=(pre, rest))


def strict_shrink(kinds: Iterable[Kind], acc_dtype: str) -> float:
    """Return the factor on the bound that makes the exact norm of the result stay within it.

    Half an ulp of the coefficient, half an ulp of every product and the error of the norm have to
    fit: 2.25 u of float32 for trees with a float32 or narrower leaf, 16 u for float64 trees. Half
    types are rounded once more. Where sums are formed in float32 the norm itself is less certain.
    """
    kinds = list(kinds)
    if all(kind.precision == 53 for kind in kinds):
        return 1.0 - 2.0**-49
    shrink = 1.0 - 2.25 * 2.0**-24 if acc_dtype == "float64" else 1.0 - 2.0**-18
    coarsest = max([0.0, *(kind.unit_roundoff for kind in kinds if kind.half)])
    return shrink - coarsest * (1.0 + 2.0**-9)
