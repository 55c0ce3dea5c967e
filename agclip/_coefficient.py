"""From a norm and a bound to the coefficient: 0-d arithmetic, no library named, none needed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from agclip._dtypes import Kind
from agclip._kernels import Factor, is_one, scaled
from agclip._norm import RANGES, Norm
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


class Terms(NamedTuple):
    """What a decision depends on besides its numbers."""

    wide: str
    """The name of the dtype of the norm."""
    narrow: bool
    """Whether every leaf is so narrow that the norm comes without a scale: see `narrower`."""
    shrink: float
    """Factor on the bound in the coefficient, a little below one for a strict bound."""
    policy: NonFinite
    """What becomes of a group that is not finite."""


def decide(
    m: Namespace, norm: Norm, bound: Scalar, loss_scale: Scalar | None, terms: Terms
) -> Decision:
    """Compare a norm with its bound, and return the coefficient of the group.

    With N the norm of what came in, c the bound and L the loss scale, the coefficient is c/N if
    N > c·L, else 1/L: what goes out is divided by L in the same multiplication.

    Args:
        m: `_floats` or the namespace.
        norm: The norm of the group as it came in, still multiplied by the loss scale.
        bound: c >= 0, in units of the unscaled gradient. NaN gives NaN.
        loss_scale: L > 0, or None for one.
        terms: What else there is to know.
    """
    root, scale, finite, _ = norm
    limit = bound if loss_scale is None else bound * loss_scale
    if terms.shrink < 1.0:
        # A strict bound holds for the exact norm, which may lie a little above the computed one.
        limit = limit * STRICT_MARGIN[terms.wide]
    limit = scaled(limit, scale)
    over = m.logical_not(root <= limit)
    clipped = over & finite
    pre, rest = _quotient(m, bound, scale, m.where(clipped, root, 1.0), terms)
    if pre is not None:
        pre = m.where(clipped, pre, 1.0)
    rest = m.where(clipped, rest, 1.0 if loss_scale is None else 1.0 / loss_scale)
    if terms.policy in ("propagate", "error"):
        rest = m.where(finite, rest, math.nan)
    limited = clipped if terms.policy == "skip" else over | m.logical_not(finite)
    active = limited if loss_scale is None else limited | m.logical_not(limited)
    return Decision(limited, active, _factor(m, pre, rest, terms.wide), finite, limit)


def _quotient(
    m: Namespace, bound: Scalar, scale: Scalar, root: Scalar, terms: Terms
) -> tuple[Scalar | None, Scalar]:
    """Return c·scale/root as a power of two times a number that neither over- nor underflows.

    The shrink comes last: a compiler would merge it with a constant that the bound ends with.
    """
    if terms.narrow and is_one(scale):
        # Where it underflows it takes all entries of such leaves to zero in any case.
        return None, scaled(bound / root, terms.shrink)
    pre = one = m.full_like(root, 1.0)
    scale = one * scale
    for left, right, power in RANGES[terms.wide].tiny:
        pre = m.where(bound * left < root * (right / scale), power, pre)
    tiny = pre < 1.0
    before = m.where(tiny, scale / pre, m.maximum(scale, one))
    after = m.where(tiny | (scale > 1.0), 1.0, scale)
    return pre, scaled((bound * before) / root * after, terms.shrink)


def _factor(m: Namespace, pre: Scalar | None, rest: Scalar, wide: str) -> Factor:
    """Split the coefficient once more for leaves that are multiplied in float32."""
    pre = None if is_one(pre) else pre
    if wide == "float32":
        return Factor(narrow=(pre, rest), wide=(pre, rest))
    coefficient = rest if pre is None else pre * rest
    narrow = m.full_like(rest, 1.0)
    for left, right, power in RANGES["float32"].tiny:
        narrow = m.where(coefficient < right / left, power, narrow)
    return Factor(
        narrow=(None if is_one(narrow) else narrow, coefficient / narrow), wide=(pre, rest)
    )


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
