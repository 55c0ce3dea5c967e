"""Shapes and strides: what is known of them, and arrays cut along them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from agclip._typing import Array


def overlaps_itself(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    """Tell whether two elements of a strided array may lie in the same memory.

    Ordered by stride, every axis must step over all that the smaller ones reach. Nothing is sorted:
    to a compiler that traces Python, strides may be symbols.

    Example:
        >>> overlaps_itself((3,), (0,), 8), overlaps_itself((3,), (8,), 8)
        (True, False)
    """
    axes = [(abs(s), n) for n, s in zip(shape, strides, strict=True) if n > 1]
    for i, (stride, _) in enumerate(axes):
        smaller = [s * (n - 1) for k, (s, n) in enumerate(axes) if k != i and s <= stride]
        if stride < itemsize + sum(smaller):
            return math.prod(shape) > 0
    return False


def known_shape(x: Array) -> tuple[Any, ...] | None:
    """Return the lengths of the axes, None for one that is not known yet; None if none of them is.

    A program may be traced for arrays of any shape, or even of any number of axes: what is not
    known then is None, or a number below 0.
    """
    return None if x.ndim is None or x.ndim < 0 else tuple(x.shape)


def pieces(x: Any, size: int) -> Iterable[Any]:
    """Cut an array along its first axes into views of at most `size` elements.

    Widening a piece at a time keeps the copy in cache; reshaping to one axis would copy a leaf
    that is not contiguous.

    Example:
        >>> [x.size for x in pieces(np.ones((5, 2)), 4)]
        [4, 4, 2]
    """
    if math.prod(x.shape) <= size:
        yield x
        return
    rows = size // math.prod(x.shape[1:])
    if rows:
        for start in range(0, x.shape[0], rows):
            yield x[start : start + rows, ...]
    else:
        for row in range(x.shape[0]):
            yield from pieces(x[row, ...], size)
