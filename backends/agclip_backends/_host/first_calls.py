"""The first call of each compiled kernel, which compiles it or reads it from the cache on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def make_all(k: Any, between: Callable[[], object] = lambda: None) -> None:
    """Call every kernel on an array of each format, so that it is there.

    Args:
        k: The module of the kernels.
        between: Called after each of them. What it raises ends the work.
    """
    # What the tables point to has to live until the last call.
    calls, _arrays = _calls(k)
    for kernel, *arguments in calls:
        kernel(*arguments)
        between()
    k.team_body()
    between()


def _calls(k: Any) -> tuple[list[tuple[Any, ...]], list[Any]]:
    arrays = [np.ones(2, dtype) for dtype in (np.uint16, np.uint16, np.float32, np.float64)]
    table = np.empty((4, len(arrays) + 1), np.int64)
    table[k.ADDRESS, :-1] = [array.ctypes.data for array in arrays]
    table[k.COUNT, :-1] = 2
    table[k.CODE, :-1] = k.FLOAT16, k.BFLOAT16, k.FLOAT32, k.FLOAT64
    targets = table[k.ADDRESS, :-1].copy()
    sums, n = np.empty(len(arrays)), len(arrays)
    ones = np.ones(n)
    none: list[Any] = []
    empty = np.zeros((4, 1), np.int64)
    calls = [
        (k.complete, table, True),
        (k.sum_squares, table, 0, n, 1.0, sums),
        (k.totals, table, sums, sums),
        (k.scale, table, 0, n, targets, ones),
        (k.maxima, table, sums, sums),
        (k.clip, table, 0, n, targets, ones, ones),
        (k.peaks, table, 0, n, sums),
        (k.sum_magnitudes, table, 0, n, sums),
        (k.exact_parts, table, 0, n, 1.0, ones[:3], True, np.empty((n, 3), np.int64)),
        (k.read_arrays, id(none), 16, np.empty((1, 3), np.int64), False, empty),
        (k.read_tensors, id(none), 16, targets, np.empty((1, 3), np.int64), 1, False, empty),
    ]
    return calls, [arrays, none]
