"""The rounding test: where the plain sum proves what the reproducible norm would give, it answers.

A float64 sum of the squares of float32 and narrower leaves, in any order, is within a known error
of the sum that defines the reproducible norm. The norm in float32, the comparison with the bound
and the coefficient in float32 are monotone functions of it: if both ends of the interval give the
same, so does every number between them, the reproducible norm included (A. Ziv, "Fast evaluation of
elementary mathematical functions with correctly rounded last bit", ACM TOMS 17, 1991). Otherwise
the reproducible norm is computed.
"""

from __future__ import annotations

import ctypes
import functools
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agclip._backends import batch, host_scalars
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._numerics.exact import exact_norm
from agclip._numerics.ranges import Norm
from agclip._typing import Array


@dataclass(slots=True)
class Tally:
    """How often the test was made, and how often it could not decide."""

    tests: int = 0
    fallbacks: int = 0


tally = Tally()


_ARITHMETIC = 2.0**-50
"""What the few operations from a norm to a coefficient add to its relative error: four times the
roundoff of float64."""


def relative_error(backend: Backend, leaves: Sequence[Array]) -> float:
    """Return a bound on |n / norm - 1| for a norm n from plain sums of the leaves' squares.

    A backend adds at most `chain` squares, and then the sums of as many, one after the other.
    """
    return error_of(backend.chain or backend.block, batch.elements(leaves))


@functools.lru_cache(maxsize=4096)  # every step asks for the same leaves
def error_of(chain: int | None, count: int) -> float:
    """Return the same bound for a number of real elements; a chain of None is one sum of all."""
    chain = chain or count
    additions = min(chain + count // max(chain, 1), count)
    # Each addition contributes 2**-53 to the sum, rounding to the grid 2**-63 an element.
    squares: float = (additions + 8) * 2.0**-53 + count * 2.0**-63
    return squares / 2 + 2.0**-51


PARTS = 64
"""What a rank adds up of its sums at most, for `error_over_ranks`."""
_CHAINS = 2**12, 2**18


def known_chain(chain: int | None) -> bool:
    """Tell whether sums of as many squares one after the other are as `error_over_ranks` says."""
    return chain is not None and _CHAINS[0] <= chain <= _CHAINS[1]


def error_over_ranks(count: float, ranks: int) -> float:
    """Return a bound as `relative_error`, for plain sums of all ranks that are added up.

    Every rank's chains are of `known_chain`, so the bound of all elements holds for those of each.
    """
    additions = min(_CHAINS[1] + count / _CHAINS[0], count) + PARTS + ranks
    squares: float = (additions + 8) * 2.0**-53 + count * 2.0**-63
    return squares / 2 + 2.0**-51


def error_along(leaf: Array, axes: tuple[int, ...]) -> float:
    """Return a bound as `relative_error`, for plain sums along axes in any order."""
    parts = 2 if kind_of(leaf.dtype).family == "complex" else 1
    count = parts * math.prod(leaf.shape[axis] for axis in axes)
    squares: float = (count + 8) * 2.0**-53 + count * 2.0**-63
    return squares / 2 + 2.0**-51


def certain_range(value: Any, error: float) -> tuple[Any, Any]:
    """Return the ends of what a value with a relative error may be.

    The error is that of a norm; the arithmetic from it to a coefficient is allowed for.
    """
    margin = error + _ARITHMETIC
    return value * (1.0 - margin), value * (1.0 + margin)


def same_float32(value: float, error: float) -> bool:
    """Tell whether all that a value may be is rounded to the same float32."""
    margin = error + _ARITHMETIC
    low, high = value * (1.0 - margin), value * (1.0 + margin)
    return ctypes.c_float(low).value == ctypes.c_float(high).value


def all_float32(norms: Sequence[Norm]) -> list[float] | None:
    """Return the float32 that all that each norm may be is rounded to; None if one is uncertain.

    As `same_float32` of each, in a third of the time. None, too, if one is NaN or has a scale.
    """
    roots, scales, _, errors = zip(*norms, strict=True)
    if scales.count(1.0) < len(scales):
        return None
    ends = list(zip(roots, [error + _ARITHMETIC for error in errors], strict=True))
    low = array("f", [root * (1.0 - margin) for root, margin in ends])
    high = array("f", [root * (1.0 + margin) for root, margin in ends])
    return low.tolist() if low == high else None


def exact_instead(
    backend: Backend, leaves: Sequence[Array], axes: Sequence[tuple[int, ...]] | None = None
) -> Norm:
    """Return the reproducible norm of leaves, where the test could not decide."""
    tally.fallbacks += 1
    m = host_scalars if axes is None else backend.xp
    return exact_norm(backend, m, leaves, axes, 2)
