"""Norms and non-finite elements of an array from a file, in pieces of a fixed size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import agclip
from agclip._backends.dtypes import kind_of
from agclip_backends import DEFAULT

PIECE = 1 << 18
"""Entries that are widened to float64 at a time: 2 MiB."""


OVERFLOWN = "every number is finite, and their norm above the largest float64: inf stands for it."
"""What is said of such a norm."""


class Measured(NamedTuple):
    """What is said of one leaf, or of all."""

    norm: float
    nan: int
    inf: int

    @property
    def finite(self) -> bool:
        """Whether every entry is finite."""
        return not (self.nan or self.inf)

    @property
    def overflown(self) -> bool:
        """Whether every entry is finite, and the norm too large for a float64."""
        return self.finite and math.isinf(self.norm)


def is_measured(dtype: str) -> bool:
    """Tell whether arrays of a dtype have a norm: integers and booleans are no gradients."""
    return kind_of(_Named(dtype)).family in ("real", "complex")


class _Named(NamedTuple):
    """A dtype as `kind_of` asks for it: by its name."""

    name: str


def measure(array: Any, order: float = 2.0) -> Measured:
    """Measure one array of floating-point numbers, in float64 whatever its dtype.

    Args:
        array: An array of the default backend.
        order: The order of the norm.
    """
    xp = agclip.get_backend(DEFAULT).xp
    wide = xp.complex128 if kind_of(array.dtype).family == "complex" else xp.float64
    flat = xp.reshape(array, (-1,))
    parts = []
    for start in range(0, flat.shape[0], PIECE):
        piece = xp.astype(flat[start : start + PIECE], wide)
        norm = float(agclip.global_norm([piece], order))
        nan = inf = 0
        if not math.isfinite(norm):
            nan, inf = int(xp.sum(xp.isnan(piece))), int(xp.sum(xp.isinf(piece)))
        parts.append(Measured(norm, nan, inf))
    return combined(parts, order)


def combined(parts: Sequence[Measured], order: float = 2.0) -> Measured:
    """Measure arrays together from what was measured of each."""
    nan, inf = sum(part.nan for part in parts), sum(part.inf for part in parts)
    if nan:
        return Measured(math.nan, nan, inf)
    if inf:
        return Measured(math.inf, nan, inf)
    return Measured(_norm_of_norms([part.norm for part in parts], order), nan, inf)


def _norm_of_norms(norms: Sequence[float], order: float) -> float:
    """Return the norm of the vector of norms, without over- or underflow."""
    largest = max(norms, default=0.0)
    if order == 2 or largest in (0.0, math.inf):
        return math.hypot(*norms)
    if order == math.inf:
        return largest
    total = math.fsum((norm / largest) ** order for norm in norms)
    try:
        return float(largest * total ** (1.0 / order))
    except OverflowError:
        return math.inf
