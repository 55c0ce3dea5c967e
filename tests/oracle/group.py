"""What happens to one group of entries that share a norm: the common part of all norm rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from oracle.norm import Norm, Root
from oracle.tensor import (
    Exact,
    ExactComplex,
    Number,
    Real,
    Tensor,
    is_complex,
    not_a_number,
    product,
)

POLICIES = ("propagate", "zero", "skip")

Limit: TypeAlias = Root | float | None
"""A threshold: a number, +inf or NaN, or None for "off"."""


def threshold(c: Real | None) -> Limit:
    """Return a threshold in the form that norms are compared with; negative ones count as 0."""
    if c is None:
        return None
    if isinstance(c, float) and not math.isfinite(c) and not c < 0:
        return c
    return Root(Fraction(max(c, 0))) if c > 0 else Root(Fraction(0))


@dataclass(frozen=True, slots=True)
class Treatment:
    """How the groups of one call are treated.

    Attributes:
        nonfinite: What a group becomes whose norm is not finite; one of `POLICIES`.
        loss_scale: What the incoming gradients were multiplied by.
    """

    nonfinite: str = "propagate"
    loss_scale: Real = 1

    def __post_init__(self) -> None:
        """Refuse a policy that gives no result, and a scale that cannot be divided out."""
        if self.nonfinite not in POLICIES:
            msg = f"`nonfinite` must be one of {', '.join(POLICIES)}; got {self.nonfinite!r}."
            raise ValueError(msg)
        if not 0 < self.loss_scale < math.inf:
            msg = f"`loss_scale` must be positive and finite; got {self.loss_scale!r}."
            raise ValueError(msg)

    @property
    def unscaling(self) -> Fraction:
        """The factor that takes the loss scale out of a gradient."""
        return 1 / Fraction(self.loss_scale)

    def unscaled(self, norm: Norm) -> Norm:
        """Return the norm of the gradients without their loss scale."""
        return norm.times(self.unscaling) if isinstance(norm, Root) else norm

    def clip(self, values: Sequence[Number], norm: Norm, limit: Limit) -> tuple[list[Number], bool]:
        """Clip one group.

        Args:
            values: The entries, multiplied by the loss scale.
            norm: The norm that decides, without the loss scale.
            limit: The threshold for that norm.

        Returns:
            The entries of the result, without the loss scale, and whether the rule put other
            values in the place of the gradients.
        """
        if limit is None:
            return _scaled(values, self.unscaling), False
        if isinstance(limit, float) and math.isnan(limit):
            return [not_a_number(v) for v in values], True
        if isinstance(norm, float):
            return self._replace(values)
        if isinstance(limit, float) or not norm.exceeds(limit):
            return _scaled(values, self.unscaling), False
        return _scaled(values, limit.over(norm).value() * self.unscaling), True

    def _replace(self, values: Sequence[Number]) -> tuple[list[Number], bool]:
        """Apply the policy for groups that are not finite."""
        if self.nonfinite == "propagate":
            return [not_a_number(v) for v in values], True
        if self.nonfinite == "zero":
            return [_zero(is_complex(v)) for v in values], True
        return _scaled(values, self.unscaling), False

    def clip_each(
        self,
        array: Tensor,
        members: Sequence[Sequence[int]],
        norms: Sequence[Norm],
        limits: Sequence[Limit],
    ) -> Tensor:
        """Clip every group of a tensor, given the flat positions of the members of each."""
        result = list(array.values)
        for positions, norm, limit in zip(members, norms, limits, strict=True):
            clipped, _ = self.clip([array.values[i] for i in positions], norm, limit)
            for position, value in zip(positions, clipped, strict=True):
                result[position] = value
        return Tensor(array.shape, tuple(result))


def _scaled(values: Sequence[Number], factor: Fraction) -> list[Number]:
    return [product(v, factor) for v in values]


def _zero(of_complex: bool) -> Exact | ExactComplex:
    return ExactComplex(Fraction(0), Fraction(0)) if of_complex else Fraction(0)
