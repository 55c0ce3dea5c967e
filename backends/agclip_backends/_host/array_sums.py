"""Sums of squares by NumPy's array calls, of arrays and of tensors that are arrays in host memory.

Small leaves are gathered, for calls cost more than their arithmetic; large ones are widened piece
by piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from agclip import adapters
from agclip.adapters import is_one, kind_of

BLOCK = 1 << 13
"""Elements whose squares are added in one dot product, one after the other.

OpenBLAS (0.3.31) splits a dot product of more than 10,000 elements over threads, whose start costs
more than the product.
"""
PIECE = 3 << 16
"""Elements that are widened at a time: 1.5 MiB of float64. Fewer take longer for each element."""
SMALL = 1 << 12
"""Elements up to which a leaf is gathered with others."""
_BATCH = 1 << 15
"""Elements that are gathered at a time."""


def of_leaves(
    leaves: Sequence[Any],
    sizes: Sequence[int],
    gathered: Callable[[Sequence[Any]], Any],
    single: Callable[[Any], float],
) -> list[float]:
    """Return Σ x² of each leaf.

    Args:
        leaves: Real leaves.
        sizes: Their numbers of elements.
        gathered: `(leaves)` → the elements of some, one leaf after the other, as float64 of NumPy
            that may be overwritten.
        single: `(leaf)` → the sum of one that is not small.
    """
    if sizes and min(sizes) and max(sizes) <= SMALL and sum(sizes) <= _BATCH:
        return _together(leaves, sizes, gathered)
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
    """Return the elements of arrays, one after the other, as float64."""
    return np.concatenate(arrays, axis=None, dtype=np.float64, casting="unsafe")


def _add(
    leaves: Sequence[Any],
    sizes: Sequence[int],
    gathered: Callable[[Sequence[Any]], Any],
    batch: Sequence[int],
    sums: list[float],
) -> None:
    found = _together([leaves[i] for i in batch], [sizes[i] for i in batch], gathered)
    for i, value in zip(batch, found, strict=True):
        sums[i] = value


def _together(
    leaves: Sequence[Any], sizes: Sequence[int], gathered: Callable[[Sequence[Any]], Any]
) -> list[float]:
    squares = gathered(leaves)
    starts = [0, *itertools.accumulate(sizes[:-1])]
    with np.errstate(all="ignore"):
        np.multiply(squares, squares, out=squares)
        totals: list[float] = np.add.reduceat(squares, starts).tolist()
    return totals


def widened(kept: list[Any]) -> Any:
    """Return memory to widen pieces of leaves in, as float64: a call makes it once, if at all.

    New memory for each leaf would take longer than its arithmetic: the system clears it.
    """
    if not kept:
        kept.append(np.empty(PIECE))
    return kept[0]


def of_leaf(leaf: Any, scale: float = 1.0, *, closely: bool, kept: list[Any]) -> float:
    """Return Σ (scale·|x|)² of an array.

    Args:
        leaf: The array.
        scale: The factor.
        closely: Whether its roundings show in a float64 norm.
        kept: Where `widened` keeps its memory for the other leaves of a call.
    """
    kind = kind_of(leaf.dtype)
    flat: Any = np.asarray(leaf)
    if kind.family == "complex":
        return adapters.float_total(
            of_leaf(part, scale, closely=closely, kept=kept) for part in (flat.real, flat.imag)
        )
    sums: list[float] = []
    for piece in _pieces(flat, kept):
        y = piece if is_one(scale) else piece * scale
        # Squares of float32 are exact in float64, and for a float32 norm any order of summation
        # will do; for a float64 one pairwise summation loses least.
        sums += [float(np.add.reduce(y * y))] if closely else _dots(y)
    return adapters.float_total(sums)


def _pieces(x: Any, kept: list[Any]) -> Iterable[Any]:
    """Yield the elements of an array as float64, at most `PIECE` at a time, not to be written."""
    if x.dtype.itemsize < np.dtype(np.float64).itemsize and x.dtype.isnative and x.flags.forc:
        line, room = x.ravel(order="K"), widened(kept)
        for start in range(0, line.size, PIECE):
            piece = line[start : start + PIECE]
            y = room[: piece.size]
            np.copyto(y, piece, casting="unsafe")
            yield y
        return
    pieces: Any = np.nditer(
        x,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_dtypes=[np.float64],
        casting="unsafe",
        buffersize=PIECE,
    )
    yield from pieces


def _dots(x: Any) -> list[float]:
    """Return the sums of squares of blocks, all but the last in one call."""
    whole = x.size - x.size % BLOCK
    blocks, rest = x[:whole].reshape(-1, BLOCK), x[whole:]
    sums: list[float] = np.matmul(blocks[:, None, :], blocks[:, :, None]).ravel().tolist()
    return [*sums, float(np.dot(rest, rest))]
