"""Sums along axes, in standard calls: for `axes=`, units of adaptive clipping, and examples.

The reduced axes stay as ones. Leaves are widened in blocks of rows where the backend says so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from agclip._backends import devices, kernels
from agclip._backends import powers as _powers
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._typing import Array, DType, Scalar

Combine = Callable[[Any, Any], Any]


def sum_squares(
    backend: Backend,
    leaves: Sequence[Array],
    axes: Sequence[tuple[int, ...]],
    acc_dtype: DType,
    scale: Scalar,
    *,
    closely: bool,
) -> Array:
    """Return Σ (scale·|x|)² along axes, added up over the leaves; `closely` as for `_summed`."""
    xp = backend.xp

    def squares(rows: Array, scale: Scalar) -> list[Array]:
        ys = [kernels.cast(xp, part, acc_dtype) for part in kernels.real_parts(xp, rows)]
        return [y * y for y in (kernels.scaled(y, scale) for y in ys)]

    return _summed(backend, leaves, axes, acc_dtype, squares, (scale,), closely=closely)


def abs_max(
    backend: Backend, leaves: Sequence[Array], axes: Sequence[tuple[int, ...]], acc_dtype: DType
) -> Array:
    """Return max |x| along axes over the leaves; complex: of the two parts; 0 where empty."""
    xp = backend.xp

    def of_rows(rows: Array, along: tuple[int, ...]) -> Array:
        maxima = []
        for part in kernels.real_parts(xp, rows):
            y = xp.abs(kernels.cast(xp, part, acc_dtype))
            maxima.append(kernels.peak(xp, y, along))
        return maxima[0] if len(maxima) == 1 else xp.maximum(maxima[0], maxima[1])

    return over(backend, leaves, axes, of_rows, xp.maximum, ())


def power_sums(
    backend: Backend,
    leaves: Sequence[Array],
    axes: Sequence[tuple[int, ...]],
    acc_dtype: DType,
    p: float,
    scale: Scalar,
    unit: Scalar,
    *,
    closely: bool,
) -> Array:
    """Return Σ (scale·|x|/unit)^p along axes, added up over the leaves; the max for p = inf."""
    xp = backend.xp

    def powers(rows: Array, scale: Scalar, unit: Scalar) -> list[Array]:
        return [kernels.power(xp, kernels.magnitudes(xp, rows, acc_dtype, scale, unit), p)]

    def largest(rows: Array, along: tuple[int, ...], scale: Scalar, unit: Scalar) -> Array:
        return kernels.peak(xp, kernels.magnitudes(xp, rows, acc_dtype, scale, unit), along)

    if p == math.inf:
        return over(backend, leaves, axes, largest, xp.maximum, (scale, unit))
    return _summed(backend, leaves, axes, acc_dtype, powers, (scale, unit), closely=closely)


def _summed(
    backend: Backend,
    leaves: Sequence[Array],
    axes: Sequence[tuple[int, ...]],
    acc_dtype: DType,
    function: Callable[..., Sequence[Array]],
    broadcast: tuple[Scalar, ...],
    *,
    closely: bool,
) -> Array:
    """Return the sums along axes of the numbers >= 0 that a function makes of rows.

    Along a leading axis libraries add rows one after the other. With `closely` that does not
    matter: see `_backends.powers`.
    """
    xp, precision = backend.xp, kind_of(acc_dtype).precision

    def plain(rows: Array, along: tuple[int, ...], *scalars: Scalar) -> Array:
        ys = function(rows, *scalars)
        return functools.reduce(add, [_sum(backend, y, along) for y in ys])

    first = over(backend, leaves, axes, plain, add, broadcast)
    if not closely:
        return first
    ordinary, anchor = _powers.anchor(xp, first, precision)

    def part(rests: bool) -> Array:
        def of_rows(rows: Array, along: tuple[int, ...], a: Array, *scalars: Scalar) -> Array:
            sums = []
            for y in function(rows, *scalars):
                q = (y + a) - a
                sums.append(_sum(backend, y - q if rests else q, along))
            return functools.reduce(add, sums)

        return over(backend, leaves, axes, of_rows, add, (anchor, *broadcast))

    fresh = kernels.is_one(broadcast[0])
    return _powers.joined(xp, first, ordinary, part(False), part(True), precision, first=fresh)


def over_first(
    backend: Backend, leaf: Array, function: Callable[..., Array], columns: tuple[Array, ...]
) -> Array:
    """Return the sum over the first axis of what a function makes of rows, elementwise."""
    count, pieces = leaf.shape[0], backend.rows(leaf)
    if pieces == 1 or count < 2:
        return backend.xp.sum(function(leaf, *columns), axis=0)
    step = -(-count // pieces)
    end = count // step * step
    total: Any = None
    for start in range(0, end, step):
        rows = slice(start, start + step)
        part = function(leaf[rows, ...], *(column[rows, ...] for column in columns))
        total = part if total is None else total + part
    summed: Any = over_first(backend, total, lambda y: y, ()) if step > 1 else total[0, ...]
    if end == count:
        return summed
    rest = slice(end, count)
    last = function(leaf[rest, ...], *(column[rest, ...] for column in columns))
    result: Array = summed + backend.xp.sum(last, axis=0)
    return result


def add(a: Any, b: Any) -> Any:
    """Return a + b: in the standard an operator, not a function that could be passed on."""
    return a + b


def _sum(backend: Backend, y: Array, along: tuple[int, ...]) -> Array:
    # An empty tuple means "all axes" to some libraries and "none" to the standard.
    return backend.xp.sum(y, axis=along, keepdims=True) if along else y


def over(
    backend: Backend,
    leaves: Sequence[Array],
    axes: Sequence[tuple[int, ...]],
    of_rows: Callable[..., Array],
    combine: Combine,
    broadcast: tuple[Scalar, ...],
) -> Array:
    """Apply `of_rows` to every leaf, block by block, and combine the leaves' results.

    `broadcast` holds scalars, or arrays of the result's shape, that `of_rows` also takes.
    """
    result: Any = None
    first = backend.device(leaves[0])
    for leaf, along in zip(leaves, axes, strict=True):
        device = backend.device(leaf)
        moved = tuple(devices.to_device(backend, value, device) for value in broadcast)
        here = backend.at(leaf, blockwise, backend, leaf, along, of_rows, combine, moved)
        if len(leaves) > 1:
            here = backend.xp.reshape(here, (-1,))
        if result is None:
            result = here
        else:
            there = devices.to_device(backend, here, first)
            result = backend.at(result, combine, result, there)
    return result


def blockwise(
    backend: Backend,
    leaf: Array,
    along: tuple[int, ...],
    of_rows: Callable[..., Array],
    combine: Combine,
    broadcast: tuple[Scalar, ...],
) -> Array:
    def fitted(rows: slice) -> list[Any]:
        return [_rows_of(backend, value, leaf, rows) for value in broadcast]

    if backend.block is None or (size := math.prod(leaf.shape)) <= backend.block:
        return of_rows(leaf, along, *fitted(slice(None)))
    step = max(1, backend.block // (size // leaf.shape[0]))
    blocks = []
    for start in range(0, leaf.shape[0], step):
        rows = slice(start, start + step)
        blocks.append(of_rows(leaf[rows, ...], along, *fitted(rows)))
    if 0 not in along:
        joined: Array = backend.xp.concat(blocks, axis=0)
        return joined
    result: Any = blocks[0]
    for block in blocks[1:]:
        result = combine(result, block)
    return result


def _rows_of(backend: Backend, value: Any, leaf: Array, rows: slice) -> Any:
    """Return the rows of a broadcast array that belong to rows of a leaf."""
    if isinstance(value, float) or value.ndim == 0:
        return value
    if value.ndim != leaf.ndim:
        value = backend.xp.reshape(value, (-1,) + (1,) * (leaf.ndim - 1))
    return value if value.shape[0] == 1 else value[rows, ...]
