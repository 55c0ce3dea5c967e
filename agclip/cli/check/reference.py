"""The clips in plain Python: float64 and `math.fsum`, no array library and no code of the core."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Leaf = list[float]


def norm(numbers: Iterable[float]) -> float:
    """Return the l2 norm."""
    return math.hypot(*numbers)


def shrunk(leaf: Leaf, length: float, bound: float) -> Leaf:
    """Return a leaf times bound/length, if length is above the bound."""
    return [x * (bound / length) for x in leaf] if length > bound else list(leaf)


def by_value(leaves: Sequence[Leaf], bound: float) -> list[Leaf]:
    """Return the leaves with every entry in [-bound, bound]."""
    return [[min(max(x, -bound), bound) for x in leaf] for leaf in leaves]


def by_norm(leaves: Sequence[Leaf], bound: float) -> list[Leaf]:
    """Return each leaf clipped to a norm."""
    return [shrunk(leaf, norm(leaf), bound) for leaf in leaves]


def by_average_norm(leaves: Sequence[Leaf], bound: float) -> list[Leaf]:
    """Return each leaf clipped to a norm divided by its size."""
    return [shrunk(leaf, norm(leaf) / len(leaf), bound) for leaf in leaves]


def by_rms(leaves: Sequence[Leaf], bound: float) -> list[Leaf]:
    """Return each leaf clipped to a root mean square."""
    return [shrunk(leaf, norm(leaf) / math.sqrt(len(leaf)), bound) for leaf in leaves]


def by_global_norm(leaves: Sequence[Leaf], bound: float) -> list[Leaf]:
    """Return all leaves clipped to a norm of them together."""
    length = norm(x for leaf in leaves for x in leaf)
    return [shrunk(leaf, length, bound) for leaf in leaves]


def adaptive(
    leaf: Leaf, param: Leaf, width: int, clipping: float = 0.01, eps: float = 1e-3
) -> list[Leaf]:
    """Return a matrix whose rows are clipped against the norms of the parameters' rows."""
    made = []
    for start in range(0, len(leaf), width):
        row, weights = leaf[start : start + width], param[start : start + width]
        made += shrunk(row, norm(row), clipping * max(norm(weights), eps))
    return [made]


def per_example(leaf: Leaf, width: int, bound: float) -> list[Leaf]:
    """Return the sum of a matrix's rows, each clipped to a norm."""
    rows = [leaf[start : start + width] for start in range(0, len(leaf), width)]
    clipped = [shrunk(row, norm(row), bound) for row in rows]
    return [[math.fsum(column) for column in zip(*clipped, strict=True)]]
