"""Calls for the golden vectors: what one is, and how its arrays are written down."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from oracle.functions import FORMATS, Tensor, round_to, tensor

INF = math.inf
NAN = math.nan

INTEGERS = {
    f"{sign}int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
COMPONENT = {"complex64": "float32", "complex128": "float64"}

REALS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Array:
    """A tensor of numbers that are all exact in a dtype."""

    dtype: str
    tensor: Tensor

    @property
    def component(self) -> str:
        """The dtype of the real and imaginary parts; that of the entries where they are real."""
        return COMPONENT.get(self.dtype, self.dtype)


@dataclass(frozen=True)
class Case:
    """A call of a public function, and the promise it is a case of."""

    function: str
    name: str
    about: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


def array(dtype: str, nested: Any) -> Array:
    """Return an array of numbers, rounded to a dtype."""
    made = tensor(nested)
    return Array(dtype, Tensor(made.shape, tuple(rounded(v, dtype) for v in made.values)))


def empty(dtype: str, shape: tuple[int, ...]) -> Array:
    """Return an array without entries."""
    return Array(dtype, Tensor(shape, ()))


def rounded(value: Any, dtype: str) -> Any:
    """Return a number as an array of a dtype would hold it."""
    if dtype in INTEGERS:
        return int(value)
    if dtype in COMPONENT:
        z = complex(value)
        component = COMPONENT[dtype]
        return complex(round_to(z.real, component), round_to(z.imag, component))
    return round_to(value, dtype)


def saturated(bound: Any, dtype: str) -> Any:
    """Return a finite bound brought into the range of a real dtype, and rounded to it."""
    if dtype in INTEGERS or not math.isfinite(bound):
        return bound
    largest = FORMATS[dtype].largest
    return round_to(min(max(Fraction(bound), -largest), largest), dtype)


class Cases(list[Case]):
    """The cases of one function, under the promises they belong to."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self.function = function
        self.about = ""

    def promise(self, about: str) -> None:
        """Begin a new promise."""
        self.about = about

    def add(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Add a call."""
        self.append(Case(self.function, name, self.about, args, kwargs))
