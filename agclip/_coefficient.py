"""From a norm and a bound to the coefficient: 0-d arithmetic, no library named, none needed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from agclip._dtypes import Kind
from agclip._kernels import Factor
from agclip._norm import RANGES, Norm, Range
from agclip._typing import Namespace, NonFinite, Scalar

STRICT_MARGIN = {"float64": 1.0 - 2.0**-50, "float32": 1.0 - 2.0**-20}


class Decision(NamedTuple):
    """What happens to a group, or to each slice of a leaf."""

    limited: Scalar
    """Whether the group exceeds its bound, or is not finite and the policy acts on that."""
    active: Scalar
    """Whether anything is multiplied: the group is limited, or there is a loss scale."""
    factor: Factor
    finite: Scalar
    """Whether the norm was finite."""
    limit: Scalar
    """What the root was compared with."""


def decide(
    m: Namespace,
    norm: Norm,
    bound: Scalar,
    loss_scale: Scalar | None,
    shrink: float,
    wide: str,
    policy: NonFinite,
) -> Decision:
    """Compare a norm with its bound, and return the coefficient of the group.

    With N the norm of what came in, c the bound and L the loss scale, the coefficient is c/N if
    N > c·L, else 1/L: what goes out is divided by L in the same multiplication.

    Args:
        m: `_floats` or the namespace.
        norm: The norm of the group as it came in, still multiplied by the loss scale.
        bound: c >= 0, in units of the unscaled gradient. NaN gives NaN.
        loss_scale: L > 0, or None for one.
        shrink: Factor on c in the coefficient, a little below one for a strict bound.
        wide: The name of the dtype of the norm.
        policy: What becomes of a group that is not finite.
    """
    root, scale, finite, _ = norm

    def const(value: float) -> Scalar:
        return m.full_like(root, value)

    limit = bound if loss_scale is None else bound * loss_scale
    if shrink < 1.0:
        # A strict bound holds for the exact norm, which may lie a little above the computed one.
        limit = limit * STRICT_MARGIN[wide]
    limit = limit * scale
    over = m.logical_not(root <= limit)
    clipped = over & finite
    divisor = m.where(clipped, root, const(1.0))
    pre, rest = _quotient(m, bound, shrink, scale, divisor, RANGES[wide])
    idle = 1.0 if loss_scale is None else 1.0 / loss_scale
    pre = m.where(clipped, pre, const(1.0))
    rest = m.where(clipped, rest, const(1.0) * idle)
    if policy in ("propagate", "error"):
        rest = m.where(finite, rest, const(math.nan))
    limited = clipped if policy == "skip" else over | m.logical_not(finite)
    active = limited if loss_scale is None else limited | m.logical_not(limited)
    return Decision(limited, active, _factor(m, pre, rest, wide), finite, limit)


def _quotient(
    m: Namespace, bound: Scalar, shrink: float, scale: Scalar, root: Scalar, limits: Range
) -> tuple[Scalar, Scalar]:
    """Return c·scale/root as a power of two times a number that neither over- nor underflows."""
    one = m.full_like(root, 1.0)
    scale = one * scale
    pre = one
    for left, right, power in limits.tiny:
        pre = m.where(bound * left < root * (right / scale), m.full_like(root, power), pre)
    tiny = pre < 1.0
    before = m.where(tiny, scale / pre, m.maximum(scale, one))
    after = m.where(tiny | (scale > 1.0), one, scale)
    # The shrink comes last: a compiler would merge it with a constant that the bound ends with.
    return pre, (bound * before) / root * after * shrink


def _factor(m: Namespace, pre: Scalar, rest: Scalar, wide: str) -> Factor:
    """Split the coefficient once more for leaves that are multiplied in float32."""
    if wide == "float32":
        return Factor(narrow=(_power(pre), rest), wide=(_power(pre), rest))
    coefficient = pre * rest
    narrow = m.full_like(rest, 1.0)
    for left, right, power in RANGES["float32"].tiny:
        narrow = m.where(coefficient * left < right, m.full_like(rest, power), narrow)
    return Factor(narrow=(_power(narrow), coefficient / narrow), wide=(_power(pre), rest))


def _power(pre: Scalar) -> Scalar | None:
    return None if isinstance(pre, float) and pre == 1.0 else pre


def strict_shrink(kinds: Iterable[Kind], wide: str) -> float:
    """Return the factor on the bound that makes the exact norm of the result stay within it.

    Half an ulp of the coefficient, half an ulp of every product and the error of the norm have to
    fit: 2.25 u of float32 for trees with a float32 or narrower leaf, 16 u for float64 trees. Half
    types are rounded once more. Where sums are formed in float32 the norm itself is less certain.
    """
    kinds = list(kinds)
    if all(kind.precision == 53 for kind in kinds):
        return 1.0 - 2.0**-49
    shrink = 1.0 - 2.25 * 2.0**-24 if wide == "float64" else 1.0 - 2.0**-18
    coarsest = max([0.0, *(kind.unit_roundoff for kind in kinds if kind.half)])
    return shrink - coarsest * (1.0 + 2.0**-9)
