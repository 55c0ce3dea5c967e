"""Reductions in operations of MLX, which on the CPU adds up float64 in a row.

A sum of a million equal float64 numbers is off by 5000 units in the last place (MLX 0.32), and
takes twice as long as one of columns, which become vector instructions: so numbers are added in
columns first. Large leaves are widened in blocks that stay in cache. `bench/test_global_norm.py`
measures both.
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

_BLOCK = 1 << 16
"""Elements that are widened at once."""
_FAST = (256, 1 << 10)
"""The height of columns, and up to how many numbers are added in a row after that."""
_CLOSE = (16, 32)
"""The same where the roundings of a sum may show."""


class Reduction(NamedTuple):
    """How an array becomes one number, and one a row."""

    whole: Callable[[Any], Any]
    rows: Callable[[Any], Any]


def whole(y: Any) -> Any:
    """Return the sum of all elements; of real ones so that roundings do not add up."""
    return _whole(y, _CLOSE) if y.dtype in (mx.float32, mx.float64) else mx.sum(y)


def _whole(y: Any, form: tuple[int, int]) -> Any:
    height, short = form
    length = y.size
    while length > short:
        if length % height:
            return _rows(y.reshape(1, -1), form).squeeze(0)
        y, length = mx.sum(y.reshape(height, -1), axis=0), length // height
    return mx.sum(y)


def _rows(y: Any, form: tuple[int, int]) -> Any:
    height, short = form
    count, length = y.shape
    while length > short:
        end = length // height * height
        folded = mx.sum(y[:, :end].reshape(count, height, -1), axis=1)
        y = folded if end == length else mx.concatenate([folded, y[:, end:]], axis=1)
        length = y.shape[1]
    return mx.sum(y, axis=1)


def _largest(y: Any) -> Any:
    return mx.max(y) if y.size else mx.zeros((), dtype=y.dtype)


_SUM, _CLOSE_SUM = (
    Reduction(functools.partial(_whole, form=form), functools.partial(_rows, form=form))
    for form in (_FAST, _CLOSE)
)
_MAX = Reduction(_largest, functools.partial(mx.max, axis=1))


class Values(list[Any]):
    """A number of each leaf, and `rows`: the same numbers in as few arrays as they came in."""

    def __init__(self, count: int) -> None:
        super().__init__([None] * count)
        self.rows: list[Any] = []


def _reduced(
    leaves: Sequence[Any], function: Function, by: Reduction
) -> Iterator[tuple[list[int], list[Any]]]:
    """Reduce what an elementwise function makes of each leaf: an array, or several.

    Yields the positions of a leaf with a number for each, or those of several leaves with vectors.
    """
    for places in groups.alike(leaves):
        if len(places) == 1:
            yield places, _of_leaf(leaves[places[0]], function, by)
        else:
            joined = groups.joined(leaves, places).reshape(len(places), -1)
            yield places, [by.rows(y) for y in function(joined)]


def _values(leaves: Sequence[Any], function: Callable[[Any], Any], by: Reduction) -> Values:
    """Reduce the one array that an elementwise function makes of each leaf."""
    values = Values(len(leaves))
    for places, (row,) in _reduced(leaves, lambda x: [function(x)], by):
        values.rows.append(row)
        for i, one in zip(places, _apart(row), strict=True):
            values[i] = one
    return values


def _apart(row: Any) -> list[Any]:
    return list(mx.unstack(row)) if row.ndim else [row]


def _of_leaf(x: Any, function: Function, by: Reduction) -> list[Any]:
    if x.size <= _BLOCK or not devices.on_cpu():
        return [by.whole(y) for y in function(x)]
    blocks = [[by.whole(y) for y in function(block)] for block in _blocks(x)]
    return [by.whole(mx.stack(list(column))) for column in zip(*blocks, strict=True)]


def _blocks(x: Any) -> Iterator[Any]:
    flat = x.reshape(-1)
    for start in range(0, x.size, _BLOCK):
        yield flat[start : start + _BLOCK]


def sums(_: Any, leaves: Sequence[Any], function: Function) -> list[list[Any]]:
    """Return, for each leaf, the sum of each of the arrays that the function makes of it."""
    results: list[list[Any]] = [[] for _ in leaves]
    for places, rows in _reduced(leaves, function, _SUM):
        for row in rows:
            for i, one in zip(places, _apart(row), strict=True):
                results[i].append(one)
    return results


def sum_squares(xp: Any, leaves: Sequence[Any], acc_dtype: Any, scale: Scalar) -> Values:
    """Return Σ (scale·|x|)² of each leaf, formed in `acc_dtype`."""

    def squares(x: Any) -> Any:
        if x.dtype != mx.complex64 and adapters.is_one(scale):
            return mx.square(x.astype(acc_dtype))
        halves = adapters.real_parts(xp, x)
        ys = [adapters.scaled(adapters.cast(xp, half, acc_dtype), scale) for half in halves]
        return functools.reduce(mx.add, map(mx.square, ys))

    # The norm of float32 and narrower leaves is rounded to float32.
    fast = acc_dtype == mx.float64 and not adapters.double(leaves)
    return _values(leaves, squares, _SUM if fast else _CLOSE_SUM)


def abs_max(xp: Any, leaves: Sequence[Any], acc_dtype: Any) -> list[Any]:
    """Return max |x| of each leaf in `acc_dtype`; complex: of the two parts."""

    def sizes(x: Any) -> Any:
        return functools.reduce(mx.maximum, map(mx.abs, adapters.real_parts(xp, x)))

    return [largest.astype(acc_dtype) for largest in _values(leaves, sizes, _MAX)]


def power_sums(
    xp: Any, leaves: Sequence[Any], acc_dtype: Any, p: float, scale: Scalar, unit: Scalar
) -> list[Any]:
    """Return Σ (scale·|x| / unit)^p in `acc_dtype` of each leaf; for p = inf the maximum."""
    found = []
    for leaf in leaves:
        blocks = list(_blocks(leaf)) if leaf.size > _BLOCK and devices.on_cpu() else [leaf]
        made = adapters.power_sums(xp, blocks, acc_dtype, p, scale, unit)
        by = _MAX if p == math.inf else _CLOSE_SUM
        found.append(made[0] if len(made) == 1 else by.whole(mx.stack(list(made))))
    return found


def total(_: Any, values: Sequence[Any]) -> Any:
    """Return the sum of scalars."""
    rows = values.rows if isinstance(values, Values) else values
    if len(rows) > 1:
        return whole(mx.concatenate([row.reshape(-1) for row in rows]))
    return whole(rows[0]) if rows[0].ndim else rows[0]
