"""Reductions in operations of MLX, which on the CPU adds up float64 in a row.

A sum of a million equal float64 numbers is off by 5000 units in the last place (MLX 0.32). Where
that could show, rows of 16 are added first, and then their sums. Large leaves are widened in blocks
that stay in cache, where whole ones take four times as long: bench/test_mlx.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import mlx.core as mx

from agclip import adapters
from agclip.adapters import Scalar
from agclip_backends.mlx import devices, groups

Function = Callable[[Any], Sequence[Any]]

_BLOCK = 1 << 15
"""Elements that are widened at once."""
_ROW = 16
_SHORT = 32
"""Numbers that are added in a row."""


class Reduction(NamedTuple):
    """How an array becomes one number, and one a row."""

    whole: Callable[[Any], Any]
    rows: Callable[[Any], Any]


def whole(y: Any) -> Any:
    """Return the sum of all elements, in pairs of dozens where it is one of real numbers."""
    real = y.dtype in (mx.float32, mx.float64)
    return _folded(y.reshape(1, -1)).squeeze(0) if real and y.size > _SHORT else mx.sum(y)


def _folded(y: Any) -> Any:
    """Return the sum of each row, in which no number is added to more than some dozens."""
    count, length = y.shape
    while length > _SHORT:
        end = length // _ROW * _ROW
        sums = mx.sum(y[:, :end].reshape(count, -1, _ROW), axis=2)
        y = sums if end == length else mx.concatenate([sums, y[:, end:]], axis=1)
        length = y.shape[1]
    return mx.sum(y, axis=1)


def _largest(y: Any) -> Any:
    return mx.max(y) if y.size else mx.zeros((), dtype=y.dtype)


_along_rows = functools.partial(mx.sum, axis=1)
_PLAIN = Reduction(mx.sum, _along_rows)
_CLOSELY = Reduction(whole, _folded)
_MAX = Reduction(_largest, lambda y: mx.max(y, axis=1))


def reduced(leaves: Sequence[Any], function: Function, by: Reduction) -> list[list[Any]]:
    """Reduce, for each leaf, the arrays that an elementwise function makes of it."""
    results: list[list[Any]] = [[] for _ in leaves]
    for places in groups.alike(leaves):
        if len(places) == 1:
            results[places[0]] = _of_leaf(leaves[places[0]], function, by)
            continue
        rows = groups.joined([leaves[i] for i in places]).reshape(len(places), -1)
        columns = [mx.unstack(by.rows(y)) for y in function(rows)]
        for i, row in zip(places, zip(*columns, strict=True), strict=True):
            results[i] = list(row)
    return results


def _of_leaf(x: Any, function: Function, by: Reduction) -> list[Any]:
    if x.size <= _BLOCK or not devices.on_cpu():
        return [by.whole(y) for y in function(x)]
    blocks = [[by.whole(y) for y in function(block)] for block in _blocks(x)]
    return [by.whole(mx.stack(column)) for column in zip(*blocks, strict=True)]


def _blocks(x: Any) -> Iterator[Any]:
    flat = x.reshape(-1)
    for start in range(0, x.size, _BLOCK):
        yield flat[start : start + _BLOCK]


def sums(_: Any, leaves: Sequence[Any], function: Function) -> list[list[Any]]:
    """Return, for each leaf, the sum of each of the arrays that the function makes of it."""
    return reduced(leaves, function, _PLAIN)


def sum_squares(xp: Any, leaves: Sequence[Any], acc_dtype: Any, scale: Scalar) -> list[Any]:
    """Return Σ (scale·|x|)² of each leaf, formed in `acc_dtype`."""

    def squares(x: Any) -> list[Any]:
        halves = adapters.real_parts(xp, x)
        ys = [adapters.scaled(adapters.cast(xp, half, acc_dtype), scale) for half in halves]
        return [ys[0] * ys[0] if len(ys) == 1 else ys[0] * ys[0] + ys[1] * ys[1]]

    # The norm of float32 and narrower leaves is rounded to float32.
    plain = acc_dtype == mx.float64 and all(leaf.dtype != mx.float64 for leaf in leaves)
    by = _PLAIN if plain else _CLOSELY
    return [found for (found,) in reduced(leaves, squares, by)]


def abs_max(xp: Any, leaves: Sequence[Any], acc_dtype: Any) -> list[Any]:
    """Return max |x| of each leaf in `acc_dtype`; complex: of the two parts."""

    def sizes(x: Any) -> list[Any]:
        parts = [mx.abs(part) for part in adapters.real_parts(xp, x)]
        return [parts[0] if len(parts) == 1 else mx.maximum(*parts)]

    return [found.astype(acc_dtype) for (found,) in reduced(leaves, sizes, _MAX)]


def power_sums(
    xp: Any, leaves: Sequence[Any], acc_dtype: Any, p: float, scale: Scalar, unit: Scalar
) -> list[Any]:
    """Return Σ (scale·|x| / unit)^p in `acc_dtype` of each leaf; for p = inf the maximum."""
    found = []
    for leaf in leaves:
        blocks = list(_blocks(leaf)) if leaf.size > _BLOCK and devices.on_cpu() else [leaf]
        made = adapters.power_sums(xp, blocks, acc_dtype, p, scale, unit)
        by = _MAX if p == math.inf else _CLOSELY
        found.append(made[0] if len(made) == 1 else by.whole(mx.stack(list(made))))
    return found


def total(_: Any, values: Sequence[Any]) -> Any:
    """Return the sum of scalars."""
    return values[0] if len(values) == 1 else whole(mx.stack(list(values)))
