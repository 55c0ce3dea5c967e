"""What kernels are given, and how a backend calls a program: the types of the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from agclip._typing import Scalar

R = TypeVar("R")


class Factor(NamedTuple):
    """A coefficient as the product `pre * rest`, so that no representable result is lost.

    `pre` is a power of two, or None for one; the two together reach below the smallest normal
    number of the leaf. `narrow` is for leaves multiplied in float32, `wide` for float64 leaves.
    """

    narrow: tuple[Scalar | None, Scalar]
    wide: tuple[Scalar | None, Scalar]


class Run(Protocol):
    """How a backend calls a pure program; what it returns has the type that the program returns."""

    def __call__(
        self, program: Callable[..., R], static: tuple[Any, ...], arrays: tuple[Any, ...], /
    ) -> R:
        """Return `program(*static, *arrays)`."""
        ...
