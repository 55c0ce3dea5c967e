"""The arrays of the oracle: a shape and its entries in row-major order.

Entries are ordinary Python numbers.  What the oracle gives back is exact: a `Fraction`, or a float
where no fraction exists (NaN, the infinities and the zero with a minus sign).  An exact complex
number is an `ExactComplex` of two such parts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

Exact: TypeAlias = Fraction | float
"""An exact real result; a float only for NaN, +inf, -inf and -0.0."""

Real: TypeAlias = int | float | Fraction
"""A real number that goes in: every finite one stands for itself exactly."""


@dataclass(frozen=True, slots=True)
class ExactComplex:
    """A complex number whose parts are exact."""

    real: Exact
    imag: Exact


Number: TypeAlias = int | float | complex | Fraction | ExactComplex
Nested: TypeAlias = "Number | Sequence[Nested]"
Axes: TypeAlias = int | Sequence[int] | None


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array of numbers: `values` holds the entries of `shape` in row-major order."""

    shape: tuple[int, ...]
    values: tuple[Number, ...]

    def __post_init__(self) -> None:
        """Refuse a shape that does not fit the entries."""
        if len(self.values) != math.prod(self.shape):
            msg = f"`values` must hold {math.prod(self.shape)} entries; got {len(self.values)}."
            raise ValueError(msg)

    def nested(self) -> Nested:
        """Return the entries as nested lists, as `tolist` does in array libraries."""
        return _nest(self.shape, iter(self.values))


def _nest(shape: tuple[int, ...], entries: Iterator[Number]) -> Nested:
    if not shape:
        return next(entries)
    return [_nest(shape[1:], entries) for _ in range(shape[0])]


def tensor(nested: Nested) -> Tensor:
    """Build a tensor from nested lists or tuples; a bare number is a 0-d tensor.

    Raises:
        TypeError: A leaf is no number; arrays must be given as their `tolist()`.
        ValueError: The rows are of different shapes.
    """
    if isinstance(nested, (int, float, complex, Fraction, ExactComplex)):
        return Tensor((), (nested,))
    if not isinstance(nested, (list, tuple)):
        msg = f"`nested` must be numbers in lists or tuples; got {type(nested).__name__}."
        raise TypeError(msg)
    rows = [tensor(row) for row in nested]
    shapes = {row.shape for row in rows} or {()}
    if len(shapes) > 1:
        msg = f"`nested` must have rows of one shape; got {sorted(shapes)}."
        raise ValueError(msg)
    values = tuple(value for row in rows for value in row.values)
    return Tensor((len(rows), *shapes.pop()), values)


def is_complex(value: Number) -> bool:
    """Tell whether a number is complex by its type, whatever its imaginary part."""
    return isinstance(value, (complex, ExactComplex))


def product(value: Number, factor: Fraction) -> Exact | ExactComplex:
    """Multiply a number by an exact real factor that is not negative.

    A zero keeps the sign of `value`; inf times zero is NaN, as in IEEE 754.
    """
    if is_complex(value):
        return ExactComplex(real_product(value.real, factor), real_product(value.imag, factor))
    return real_product(value.real, factor)


def real_product(value: Real, factor: Fraction) -> Exact:
    """Multiply as `product` does, a real number."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return value * (1.0 if factor else 0.0)
        negative = math.copysign(1.0, value) < 0
    else:
        negative = value < 0
    exact = Fraction(value) * factor
    return -0.0 if negative and exact == 0 else exact


def not_a_number(value: Number) -> Exact | ExactComplex:
    """Return NaN, in both parts where `value` is complex."""
    return ExactComplex(math.nan, math.nan) if is_complex(value) else math.nan


def real(value: Number) -> Real:
    """Return a number that is no complex one.

    Raises:
        TypeError: It is complex, if only by its type.
    """
    if isinstance(value, (complex, ExactComplex)):
        msg = f"`value` must be real; got {value!r}."
        raise TypeError(msg)
    return value


def total(values: Sequence[Exact]) -> Exact:
    """Add exactly; NaN and infinities as IEEE 754 adds them, and the empty sum is 0."""
    special = [v for v in values if isinstance(v, float) and not math.isfinite(v)]
    if special:
        return sum(special)
    pairs = [v.as_integer_ratio() for v in values]
    common = math.lcm(*(below for _, below in pairs))
    return Fraction(sum(above * (common // below) for above, below in pairs), common)


def kept_shape(shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    """Return `shape` with 1 for each axis in `axes`; None means every axis.

    Raises:
        ValueError: An axis lies outside the shape or is given twice.
    """
    if axes is None:
        return (1,) * len(shape)
    given = [axes] if isinstance(axes, int) else list(axes)
    counted = {axis % len(shape) for axis in given if -len(shape) <= axis < len(shape)}
    if len(counted) != len(given):
        msg = f"`axes` must be different axes of {shape}; got {axes!r}."
        raise ValueError(msg)
    return tuple(1 if axis in counted else length for axis, length in enumerate(shape))


def _positions(source: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[int]:
    """Yield, for each index of `shape` in row-major order, the flat position in `source`."""
    padded = (1,) * (len(shape) - len(source)) + source
    strides = [math.prod(padded[axis + 1 :]) for axis in range(len(padded))]
    steps = [0 if length == 1 else step for length, step in zip(padded, strides, strict=True)]
    for index in itertools.product(*map(range, shape)):
        yield sum(i * step for i, step in zip(index, steps, strict=True))


def groups(shape: tuple[int, ...], axes: Axes) -> list[list[int]]:
    """Return the flat positions of the entries that share a norm, one list for each norm."""
    kept = kept_shape(shape, axes)
    members: list[list[int]] = [[] for _ in range(math.prod(kept))]
    for position, group in enumerate(_positions(kept, shape)):
        members[group].append(position)
    return members


def broadcast(small: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat a tensor to `shape` by the usual broadcasting rules, never enlarging `shape`.

    Raises:
        ValueError: The tensor does not fit.
    """
    trailing = shape[len(shape) - len(small.shape) :]
    fits = len(small.shape) <= len(shape) and all(
        length in (1, wanted) for length, wanted in zip(small.shape, trailing, strict=True)
    )
    if not fits:
        msg = f"`small` must broadcast to {shape}; got shape {small.shape}."
        raise ValueError(msg)
    return Tensor(shape, tuple(small.values[i] for i in _positions(small.shape, shape)))
