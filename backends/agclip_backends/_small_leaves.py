"""Sums over many small leaves at once: calls cost more than their arithmetic there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

SMALL = 1 << 12
"""Entries up to which a leaf is gathered with others."""
_BATCH = 1 << 15
"""Entries that are gathered at a time."""


def sum_squares(
    leaves: Sequence[Any],
    sizes: Sequence[int],
    gathered: Callable[[Sequence[Any]], Any],
    single: Callable[[Any], float],
) -> list[float]:
    """Return Σ x² of each leaf.

    Args:
        leaves: Real leaves.
        sizes: Their numbers of entries.
        gathered: `(leaves)` → the entries of some, one leaf after the other, as float64 of NumPy
            that may be overwritten.
        single: `(leaf)` → the sum of one that is not small.
    """
    sums = [0.0] * len(leaves)
    batch: list[int] = []
    total = 0
    for i, size in enumerate(sizes):
        if size > SMALL:
            sums[i] = single(leaves[i])
        elif size:
            if total + size > _BATCH:
                _add(leaves, sizes, gathered, batch, sums)
                batch, total = [], 0
            batch.append(i)
            total += size
    if batch:
        _add(leaves, sizes, gathered, batch, sums)
    return sums


def joined(arrays: Sequence[Any]) -> Any:
    """Return the entries of arrays, one after the other, as float64."""
    flat = [np.ravel(array) for array in arrays]
    return np.concatenate(flat, dtype=np.float64, casting="unsafe")


def _add(
    leaves: Sequence[Any],
    sizes: Sequence[int],
    gathered: Callable[[Sequence[Any]], Any],
    batch: Sequence[int],
    sums: list[float],
) -> None:
    squares = gathered([leaves[i] for i in batch])
    starts = [0, *itertools.accumulate(sizes[i] for i in batch[:-1])]
    with np.errstate(all="ignore"):
        np.multiply(squares, squares, out=squares)
        totals = np.add.reduceat(squares, starts)
    for i, value in zip(batch, totals.tolist(), strict=True):
        sums[i] = value
