"""Element by element into an interval: the way of the value clips."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from agclip._backends import batch, host_scalars, kernels, shapes
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._clipping import arguments, merging, value_bounds
from agclip._numerics.coefficient import reciprocal
from agclip._trees.distinct import deduplicated
from agclip._trees.leaves import Leaves, warn_empty
from agclip._typing import Array, DType, Scalar

_NUMBER = (numbers.Real, type(None))
"""Bounds whose order can be seen before there are arrays; rounding keeps it."""
_ORDINARY = 2.0**-120
"""Numbers from here on are in the range of float32 and bfloat16, however they are rounded."""


class Way(NamedTuple):
    """The hashable part of a program's arguments."""

    backend: Backend
    block: int | None
    """How many elements are clipped at a time, to stay in cache, where arrays are worked on at once
    and bounds are numbers; None for whole leaves."""
    stored: bool
    """Whether a leaf is of a dtype that is stored only, and computed with in another."""
    ordinary: bool = False
    """Whether a library compiles this, and bounds are numbers that it does not flush to zero."""


class Ends(NamedTuple):
    """The bounds of each leaf, None where there is none, and what all come in multiplied by."""

    lows: Sequence[Array | None]
    highs: Sequence[Array | None]
    loss_scale: Scalar | None

    def of(self, arrays: Sequence[Array]) -> Iterator[tuple[Array, Array | None, Array | None]]:
        """Return each leaf with its bounds."""
        return zip(arrays, self.lows, self.highs, strict=True)


def clip(leaves: Leaves, low: Any, high: Any, loss_scale: Any, *, inplace: bool) -> Sequence[Array]:
    """Clip leaves into bounds that are checked here."""
    way = _of_dense if leaves.sparse is None else _of_sparse
    return way(leaves, *value_bounds.readable(low, high, leaves), loss_scale, inplace=inplace)


def _of_dense(
    leaves: Leaves, low: Any, high: Any, loss_scale: Any, *, inplace: bool
) -> Sequence[Array]:
    backend = leaves.backend
    value_bounds.check_numbers(low, high)
    if loss_scale is not None:
        loss_scale = arguments.positive("loss_scale", loss_scale, leaves)
    if not leaves.arrays:
        warn_empty(leaves.name)
        return []
    if loss_scale is None and leaves.access == "sync":
        done = _at_once(leaves, low, high, inplace=inplace)
        if done is not None:
            return done
    scalars = isinstance(low, _NUMBER) and isinstance(high, _NUMBER)
    with backend.context():
        groups = value_bounds.grouped(leaves)
        lows = value_bounds.of_groups("clip_value_min", low, leaves, groups, copy=inplace)
        highs = value_bounds.of_groups("clip_value_max", high, leaves, groups, copy=inplace)
        if not scalars:
            value_bounds.check_order(leaves, lows, highs)
    if loss_scale is not None:
        value_bounds.require_real(leaves)
    foreign, free = leaves.originals is not None, leaves.access == "free"
    new = None
    if scalars and free and loss_scale is None:
        new = _by_kernel(leaves, groups, lows, highs, inplace and not foreign)
    if new is None:
        stored = any(kind.stored for kind in set(leaves.kinds))
        ordinary = scalars and backend.run is not kernels.run and _ordinary(low) and _ordinary(high)
        way = Way(backend, backend.block if scalars and free else None, stored, ordinary)
        copied = _clipped if way.block is None else _copied
        program = _overwritten if inplace and not foreign else copied
        ends = Ends(groups.spread(lows), groups.spread(highs), loss_scale)
        new = backend.run(program, (way,), (leaves.arrays, ends))
    if inplace and foreign:
        leaves.overwrite(new)
    return new


def _ordinary(bound: Any) -> bool:
    """Tell whether a number is zero, or not subnormal in any dtype that is computed with."""
    return not bound or abs(bound) >= _ORDINARY


def _of_sparse(
    leaves: Leaves, low: Any, high: Any, loss_scale: Any, *, inplace: bool
) -> Sequence[Array]:
    """Clip leaves of which some are sparse, with entries of one place added up before."""
    sure = merging.require_zeros_within(leaves, low, high)
    dense, counted = merging.as_dense(leaves)
    new = _of_dense(dense, low, high, loss_scale, inplace=False)
    if not sure:
        new = merging.counted_only(leaves, new, counted)
    if inplace:
        unwritten = deduplicated(leaves.backend, leaves.arrays)
        for leaf, one in zip(leaves.arrays, new, strict=True):
            for place in unwritten([leaf]):
                kernels.write(place, one)
    return new


def _at_once(leaves: Leaves, low: Any, high: Any, *, inplace: bool) -> Sequence[Array] | None:
    """Have the backend clip to two numbers, where an array of a number is a launch of its own."""
    kinds = set(leaves.kinds)
    if any(kind.family != "real" or kind.stored for kind in kinds):
        return None
    ends = []
    for bound, infinity in ((low, -math.inf), (high, math.inf)):
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, numbers.Real)):
            return None
        end = {
            kind: value_bounds.rounded(infinity if bound is None else bound, kind) for kind in kinds
        }
        alike = [*end.values()] * len(leaves.arrays)
        ends.append(alike if len(end) == 1 else [end[kind] for kind in leaves.kinds])
    backend, foreign = leaves.backend, leaves.originals is not None
    lows, highs = ends
    new = backend.clip(backend.xp, leaves.arrays, lows, highs, inplace and not foreign)
    if new is not None and inplace and foreign:
        leaves.overwrite(new)
    return new


def _by_kernel(
    leaves: Leaves,
    groups: value_bounds.Groups,
    lows: Sequence[Array | None],
    highs: Sequence[Array | None],
    inplace: bool,
) -> Sequence[Array] | None:
    ends: tuple[list[float], list[float]] = ([], [])
    for i, low, high in zip(groups.first, lows, highs, strict=True):
        if leaves.kinds[i].family != "real":
            return None
        ends[0].append(-math.inf if low is None else float(low))
        ends[1].append(math.inf if high is None else float(high))
    xp, clip = leaves.backend.xp, leaves.backend.clip
    return clip(xp, leaves.arrays, groups.spread(ends[0]), groups.spread(ends[1]), inplace)


def _clipped(way: Way, arrays: Sequence[Array], ends: Ends) -> Sequence[Array]:
    unscaled = _unscaled(way.backend, arrays, ends.loss_scale)
    pairs = zip(unscaled, ends.of(arrays), strict=True)
    at = way.backend.at
    return [at(leaf, _within, way, y, low, high, leaf.dtype) for y, (leaf, low, high) in pairs]


def _unscaled(
    backend: Backend, arrays: Sequence[Array], loss_scale: Scalar | None
) -> Sequence[Array]:
    if loss_scale is None:
        return arrays
    xp = backend.xp
    if any(kind.stored for kind in batch.kinds(arrays)):
        # What leaves the range of a type without infinities would be NaN, and stay it.
        arrays = [kernels.computable(xp, leaf) for leaf in arrays]
    acc_dtype = backend.acc_dtype(xp, arrays[0])
    if isinstance(loss_scale, float):
        factor = reciprocal(host_scalars, loss_scale, kind_of(acc_dtype).name)
    else:
        factor = reciprocal(xp, kernels.cast(xp, loss_scale, acc_dtype), kind_of(acc_dtype).name)
    return backend.scale(xp, arrays, factor)


def _within(way: Way, y: Any, low: Array | None, high: Array | None, dtype: DType) -> Array:
    xp = way.backend.xp
    if way.stored and kind_of(dtype).stored:
        low, high = (None if x is None else xp.astype(x, xp.float32) for x in (low, high))
        return xp.astype(_within(way, kernels.computable(xp, y), low, high, xp.float32), dtype)
    if way.block is not None:
        # An element that is not ordered with a number is NaN, and stays. A compiler would make this
        # an instruction for the minimum, which may flush subnormal elements to zero.
        y = y if high is None else xp.where(y > high, high, y)
        return y if low is None else xp.where(y < low, low, y)
    if way.ordinary:
        # Selections like these become instructions for the maximum and the minimum (XLA's CPU
        # compiler in jaxlib 0.10), which flush a subnormal element to zero: the last one takes it
        # back, for it compares equal then. Those below take twice as long on large leaves.
        clipped = y if high is None else xp.where(y > high, high, y)
        clipped = clipped if low is None else xp.where(clipped < low, low, clipped)
        return xp.where(xp.equal(clipped, y), y, clipped)
    # An element that is not ordered with itself is NaN and stays; one that is not ordered with the
    # bound meets a NaN bound, and becomes NaN.
    if high is not None:
        y = xp.where(xp.less_equal(y, high) | xp.not_equal(y, y), y, high)
    if low is not None:
        y = xp.where(xp.less_equal(low, y) | xp.not_equal(y, y), y, low)
    return y


def _copied(way: Way, arrays: Sequence[Array], ends: Ends) -> Sequence[Array]:
    """Return new leaves; large ones are clipped piece by piece."""
    assert way.block is not None, "there is a limit to the pieces"
    new: list[Array] = []
    for leaf, low, high in ends.of(arrays):
        unchanged = low is None and high is None and ends.loss_scale is None
        if unchanged or math.prod(leaf.shape) > way.block:
            new.append(way.backend.xp.asarray(leaf, copy=True))
            _overwrite(way, new[-1], low, high, ends.loss_scale)
        else:
            (y,) = _unscaled(way.backend, [leaf], ends.loss_scale)
            new.append(_within(way, y, low, high, leaf.dtype))
    return new


def _overwritten(way: Way, arrays: Sequence[Array], ends: Ends) -> Sequence[Array]:
    unwritten = deduplicated(way.backend, arrays)
    for leaf, low, high in ends.of(arrays):
        for new in unwritten([leaf]):
            way.backend.at(new, _overwrite, way, new, low, high, ends.loss_scale)
    return arrays


def _overwrite(
    way: Way, leaf: Array, low: Array | None, high: Array | None, loss_scale: Scalar | None
) -> None:
    size = math.prod(leaf.shape)
    block = way.block or size
    for piece in (leaf,) if size <= block else shapes.pieces(leaf, block):
        (y,) = _unscaled(way.backend, [piece], loss_scale)
        kernels.write(piece, _within(way, y, low, high, leaf.dtype))
