"""Python numbers, and nested lists of them, as leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from agclip._backends import kernels
from agclip._backends.backend import Backend
from agclip._typing import Array, Device, DType

_NUMBERS = (bool, int, float, complex)
_FLOAT32_MAX = 2.0**128 - 2.0**104
_INT32_MAX = 2**31 - 1
_MOST_AXES = 64
"""No library has arrays of more."""


class Literal(NamedTuple):
    """A leaf given as a Python number or a nested list of them: no array yet."""

    value: Any
    dtype: str | None = None
    """The name of its dtype, if it was a scalar that has one."""
    exchanged: bool = False
    """Whether the value is an object that is known by DLPack alone."""

    def described(self) -> str:
        """Return what the value is, for error messages."""
        if not self.exchanged:
            return "Python numbers"
        cls = type(self.value)
        return f"an object that only DLPack reads ({cls.__module__}.{cls.__qualname__})"


def is_literal(x: Any) -> bool:
    """Tell whether x is a Python number, a non-empty list of them, or of such lists."""
    if type(x) in (list, tuple):
        # Not `bool(x)`, which Dynamo has not for lists (PyTorch 2.11).
        return len(x) > 0 and all(map(is_literal, x))
    return type(x) in _NUMBERS


def materialise(
    literal: Literal, backend: Backend, device: Device, path: str, *, integers: bool
) -> Array:
    """Make an array of Python numbers on a device; None for the library's own choice.

    float32 (or complex64) on every backend, so that all give the same result; a list of integers
    alone stays integral where integers are allowed.

    Raises:
        ValueError: If a nested list is ragged or too deep, or a number does not fit.
    """
    value = literal.value
    depth = len(_shape(value, path))
    if depth > _MOST_AXES:
        msg = (
            f"a nested list of numbers must have at most {_MOST_AXES} axes; got {depth} at {path}. "
            f"Take out the lists that hold a single one."
        )
        raise ValueError(msg)
    if literal.dtype is None:
        dtype = _dtype(backend, list(_numbers(value)), path, integers=integers)
    else:
        dtype = getattr(backend.xp, literal.dtype)
    return kernels.number(backend.xp, value, dtype, device)


def _numbers(value: Any) -> Iterator[complex]:
    if isinstance(value, (list, tuple)):
        for row in value:
            yield from _numbers(row)
    else:
        yield value


def _dtype(backend: Backend, numbers: list[complex], path: str, *, integers: bool) -> DType:
    types = set(map(type, numbers))
    if bool in types:
        return backend.xp.bool
    integral = integers and types == {int}
    fits = _fits_int32 if integral else _fits_float32
    for number in numbers:
        if not fits(number):
            kind = "a 32-bit integer" if integral else "float32"
            msg = f"numbers at {path} must fit {kind}; got {number!r}. Pass an array instead."
            raise ValueError(msg)
    if integral:
        return None
    return backend.xp.complex64 if complex in types else backend.xp.float32


def _fits_int32(number: Any) -> bool:
    return bool(-_INT32_MAX - 1 <= number <= _INT32_MAX)


def _fits_float32(number: Any) -> bool:
    parts = (number.real, number.imag)
    return all(abs(part) <= _FLOAT32_MAX or abs(part) == math.inf or part != part for part in parts)


def _shape(value: Any, path: str) -> tuple[int, ...]:
    """Return the shape of a nested list of numbers.

    Raises:
        ValueError: If its rows differ in length.
    """
    if not isinstance(value, (list, tuple)):
        return ()
    shapes = [_shape(row, f"{path}[{i}]") for i, row in enumerate(value)]
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            msg = (
                f"a nested list of numbers must be rectangular; got shapes {shapes[0]} at "
                f"{path}[0] and {shape} at {path}[{i}]. Pass arrays to make a list of tensors."
            )
            raise ValueError(msg)
    return (len(shapes), *shapes[0])
