"""Norms in exact arithmetic.

A norm is kept as a `Root`: the number under the root sign and the degree of the root.  Two roots
are compared by raising both to a common power, so "norm > threshold" is decided without rounding,
also where the two differ by one part in 2^2000.  Only `Root.value` rounds, and only an irrational
root.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from oracle.tensor import (
    Axes,
    Exact,
    Number,
    Real,
    Tensor,
    groups,
    is_complex,
    kept_shape,
    total,
)

ROOT_BITS = 256
"""Bits kept of an irrational root, which makes its relative error less than 2^-254."""

LARGEST_ORDER = 64
"""Largest numerator and denominator of `ord`: powers are formed in full."""

_FLOAT_BITS = 1000


def integer_root(n: int, degree: int) -> int:
    """Return the integer part of ``n ** (1 / degree)`` for ``n >= 0``."""
    if degree == 1 or n < 2:
        return n
    if degree == 2:
        return math.isqrt(n)
    # Newton's iteration falls monotonically to the answer if it starts above it.  The float root
    # of the leading bits, a little enlarged, is such a start and right to some 30 bits.
    shift = max(0, n.bit_length() - _FLOAT_BITS) // degree + 1
    leading = float((n >> shift * degree) + 1)
    guess = (int(math.ldexp(leading ** (1 / degree), 40) * (1 + 2.0**-30) + 1) << shift >> 40) + 1
    while True:
        following = ((degree - 1) * guess + n // guess ** (degree - 1)) // degree
        if following >= guess:
            return guess
        guess = following


def root(q: Fraction, degree: int) -> Fraction:
    """Return ``q ** (1 / degree)``: exactly if it is rational, else rounded down to 256 bits."""
    above, below = integer_root(q.numerator, degree), integer_root(q.denominator, degree)
    if above**degree == q.numerator and below**degree == q.denominator:
        return Fraction(above, below)
    size = (q.numerator.bit_length() - q.denominator.bit_length()) // degree
    shift = ROOT_BITS - size
    scaled = math.floor(q * Fraction(2) ** (shift * degree))
    return integer_root(scaled, degree) * Fraction(2) ** -shift


@dataclass(frozen=True, slots=True)
class Root:
    """The non-negative real number ``radicand ** (1 / degree)``."""

    radicand: Fraction
    degree: int = 1

    def value(self) -> Fraction:
        """Return the number as a fraction, right to a relative 2^-254."""
        return root(self.radicand, self.degree)

    def exceeds(self, other: Root) -> bool:
        """Tell exactly whether this number is larger than `other`."""
        degree = math.lcm(self.degree, other.degree)
        return self._power(degree) > other._power(degree)

    def over(self, other: Root) -> Root:
        """Return the quotient of the two numbers."""
        degree = math.lcm(self.degree, other.degree)
        return Root(self._power(degree) / other._power(degree), degree)

    def times(self, factor: Fraction) -> Root:
        """Return this number times a factor that is not negative."""
        return Root(self.radicand * factor**self.degree, self.degree)

    def _power(self, degree: int) -> Fraction:
        return self.radicand ** (degree // self.degree)


Norm: TypeAlias = Root | float
"""An exact norm, or NaN or +inf where an entry is not finite."""


def group_norm(values: Iterable[Number], ord: Real = 2) -> Norm:
    """Return the norm of a group of entries.

    A NaN in any part of any entry gives NaN; otherwise an infinite part gives inf.
    """
    order = _order(ord)
    entries = list(values)
    parts = [p for v in entries for p in (v.real, v.imag) if isinstance(p, float)]
    if any(map(math.isnan, parts)):
        return math.nan
    if any(map(math.isinf, parts)):
        return math.inf
    if any(map(is_complex, entries)):
        sizes, power = _squared_moduli(entries), 2
    else:
        sizes, power = [abs(_ratio(v.real)) for v in entries], 1
    if order is None:
        return Root(max(sizes, default=Fraction(0)), power)
    summed = _power_sum(sizes, order / power)
    return Root(summed**order.denominator, order.numerator)


def _order(ord: Real) -> Fraction | None:
    """Return the order as a fraction in lowest terms; None stands for infinity."""
    if ord == math.inf:
        return None
    order = Fraction(ord) if math.isfinite(ord) else Fraction(0)
    if order <= 0 or max(order.numerator, order.denominator) > LARGEST_ORDER:
        msg = (
            f"`ord` must be inf or a positive fraction with terms up to {LARGEST_ORDER}; "
            f"got {ord!r}. Write one tenth as Fraction(1, 10)."
        )
        raise ValueError(msg)
    return order


def _ratio(value: Real) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(value)


def _squared_moduli(entries: Sequence[Number]) -> list[Fraction]:
    return [_ratio(v.real) ** 2 + _ratio(v.imag) ** 2 for v in entries]


def _power_sum(sizes: Sequence[Fraction], power: Fraction) -> Fraction:
    """Return the sum of ``size ** power``, over one common denominator if the power is whole."""
    if power.denominator > 1:
        powers = [root(size**power.numerator, power.denominator) for size in sizes]
        return Fraction(total(powers))
    common = math.lcm(*(size.denominator for size in sizes))
    scaled = (size.numerator * (common // size.denominator) for size in sizes)
    return Fraction(sum(n**power.numerator for n in scaled), common**power.numerator)


def to_exact(norm: Norm) -> Exact:
    """Return a norm as a plain number: a fraction, or NaN or inf."""
    return norm.value() if isinstance(norm, Root) else norm


def joint_norm(tensors: Iterable[Tensor | None], ord: Real = 2) -> Norm:
    """Return the norm of all entries of all tensors together; None is passed over."""
    return group_norm((v for t in tensors if t is not None for v in t.values), ord)


def norm(tensors: Iterable[Tensor | None], ord: Real = 2) -> Exact:
    """Return the joint norm ``(sum |x|^ord)^(1/ord)`` of all entries of all tensors.

    Args:
        tensors: The tensors; None is passed over. The norm of no entries at all is 0.
        ord: inf (the largest modulus) or a positive rational with terms of at most 64.

    Returns:
        A fraction, exact where the norm is rational and else right to a relative 2^-200; NaN if
        any entry has a NaN, otherwise inf if any entry is infinite.

    Raises:
        ValueError: `ord` is something else.
    """
    return to_exact(joint_norm(tensors, ord))


def exceeds(tensors: Iterable[Tensor | None], limit: Real, ord: Real = 2) -> bool:
    """Tell whether the joint norm is larger than a limit, without rounding.

    For orders that are not whole numbers, the powers that are irrational are rounded to 256 bits.
    A norm that is NaN exceeds nothing.
    """
    size = joint_norm(tensors, ord)
    if isinstance(size, float) or limit == math.inf:
        return size == math.inf and limit != math.inf
    return limit < 0 or size.exceeds(Root(Fraction(limit)))


def axis_norms(array: Tensor, axes: Axes = None, ord: Real = 2) -> Tensor:
    """Return the norms over `axes`, which stay in the shape with length 1.

    Args:
        array: The tensor.
        axes: The axes summed over: a number, several, or None for all of them.
        ord: As in `norm`.
    """
    norms = [
        to_exact(group_norm((array.values[i] for i in members), ord))
        for members in groups(array.shape, axes)
    ]
    return Tensor(kept_shape(array.shape, axes), tuple(norms))
