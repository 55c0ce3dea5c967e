"""The rounding test: where the plain sum proves what the reproducible norm would give, it answers.

A float64 sum of the squares of float32 and narrower leaves, in any order, is within a known error
of the sum that defines the reproducible norm. The norm in float32, the comparison with the bound
and the coefficient in float32 are monotone functions of it: if both ends of the interval give the
same, so does every number between them, the reproducible norm included (A. Ziv, "Fast evaluation of
elementary mathematical functions with correctly rounded last bit", ACM TOMS 17, 1991). Otherwise
the reproducible norm is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agclip import _floats
from agclip._backend import Backend
from agclip._dtypes import kind_of
from agclip._exact import exact_norm
from agclip._norm import Norm
from agclip._typing import Array


@dataclass(slots=True)
class Tally:
    """How often the test was made, and how often it could not decide."""

    tests: int = 0
    fallbacks: int = 0


tally = Tally()


def relative_error(backend: Backend, leaves: Sequence[Array]) -> float:
    """Return a bound on |n / norm - 1| for a norm n from plain sums of the leaves' squares.

    A backend adds at most `block` squares, and then the sums of the blocks, one after the other;
    each addition contributes 2**-53. Rounding to the grid contributes 2**-63 an entry.
    """
    parts = [2 if kind_of(leaf.dtype).family == "complex" else 1 for leaf in leaves]
    count: int = sum(n * math.prod(leaf.shape) for n, leaf in zip(parts, leaves, strict=True))
    chain = count if backend.block is None else backend.block + count // backend.block
    squares: float = (min(chain, count) + 8) * 2.0**-53 + count * 2.0**-62
    return squares / 2 + 2.0**-51


def settled(
    backend: Backend, leaves: Sequence[Array], norm: Norm, outcome: Callable[[Norm], Any]
) -> Norm:
    """Return a norm whose outcome is that of the reproducible norm.

    Args:
        backend: The backend of the leaves.
        leaves: The leaves, whose values can be read for nothing.
        norm: Their norm from plain sums, with a bound on its error; 0 if it is certain.
        outcome: What is made of a norm: a monotone function with comparable results.
    """
    if norm.error == 0:
        return norm
    tally.tests += 1
    low, high = (norm._replace(root=norm.root * (1 + e)) for e in (-norm.error, norm.error))
    if outcome(low) == outcome(high):
        return norm
    tally.fallbacks += 1
    return exact_norm(backend, _floats, leaves, None, 2)
