"""Clipping by value: every entry into an interval."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

from agclip import _bounds, _kernels, _known, _thresholds
from agclip._backend import Backend
from agclip._kernels import Factor
from agclip._leaves import Leaves, gather, warn_empty
from agclip._typing import Array, Scalar, T


def clip_by_value(t: T, clip_value_min: Any, clip_value_max: Any, *, loss_scale: Any = None) -> T:
    """Clip every entry into [clip_value_min, clip_value_max].

    ```
    out = max(min(t, clip_value_max), clip_value_min)
    ```

    NaN stays NaN. The derivative is 1 where the entry lies within the bounds, these included, and 0
    elsewhere. Integer arrays stay integers and are clipped exactly.

    Args:
        t: A tree of real floating-point or integer arrays of any shape.
        clip_value_min: Lower bound: a number, or an array that broadcasts to every leaf; None for
            no bound. It is rounded to the leaf's dtype, and saturates at the dtype's range.
        clip_value_max: Upper bound, likewise. Where traced bounds cross, the lower one wins.
        loss_scale: The positive number that `t` comes in multiplied by, and is divided by before
            it is clipped; None for one.

    Returns:
        The same tree with new leaves of the same library, shape, dtype and device.

    Raises:
        TypeError: If a leaf is complex, bool or no array, if libraries are mixed, or if a bound on
            integers is not an integer, or `loss_scale` is given for them.
        ValueError: If a bound is NaN, if clip_value_min > clip_value_max, or if a bound does not
            broadcast to a leaf.

    Source: TensorFlow's `tf.clip_by_value`.
    """
    leaves = gather(t, "t", families=("real", "integer"))
    new = clip(leaves, clip_value_min, clip_value_max, loss_scale, inplace=False)
    result: T = leaves.rebuild(new)
    return result


def clip_by_value_(t: T, clip_value_min: Any, clip_value_max: Any, *, loss_scale: Any = None) -> T:
    """Clip every entry into [clip_value_min, clip_value_max], in place.

    As `clip_by_value`, but the leaves are overwritten. Nothing is written unless every check holds.

    Args:
        t: A tree of arrays that can be written.
        clip_value_min: As for `clip_by_value`.
        clip_value_max: As for `clip_by_value`.
        loss_scale: As for `clip_by_value`.

    Returns:
        `t` itself.

    Raises:
        TypeError: As `clip_by_value`, and if a leaf cannot be overwritten.
        ValueError: As `clip_by_value`.
    """
    leaves = gather(t, "t", families=("real", "integer"), inplace=True)
    clip(leaves, clip_value_min, clip_value_max, loss_scale, inplace=True)
    return t


def clip(leaves: Leaves, low: Any, high: Any, loss_scale: Any, *, inplace: bool) -> Sequence[Array]:
    """Clip leaves into bounds that are checked here."""
    _bounds.check_numbers(low, high)
    loss_scale = _thresholds.positive("loss_scale", loss_scale, leaves)
    if not leaves.arrays:
        warn_empty(leaves.name)
        return []
    with leaves.backend.context():
        lows = _bounds.of_leaves("clip_value_min", low, leaves, copy=inplace)
        highs = _bounds.of_leaves("clip_value_max", high, leaves, copy=inplace)
        _bounds.check_order(leaves, lows, highs)
    if loss_scale is not None:
        _bounds.require_real(leaves)
    backend = leaves.backend
    foreign = leaves.originals is not None
    scalars = all(x is None or isinstance(x, numbers.Real) for x in (low, high))
    if scalars and loss_scale is None and leaves.access() == "free":
        new = _by_kernel(leaves, lows, highs, inplace and not foreign)
        if new is not None:
            if inplace and foreign:
                leaves.overwrite(new)
            return new
    whole = backend.block is None or not scalars or leaves.access() != "free"
    program = _overwritten if inplace and not foreign else _clipped if whole else _copied
    block = backend.block if scalars else None
    arrays: Sequence[Array] = backend.run(
        program, (backend, block), (leaves.arrays, lows, highs, loss_scale)
    )
    if inplace and foreign:
        leaves.overwrite(arrays)
    return leaves.arrays if inplace else arrays


def _by_kernel(
    leaves: Leaves, lows: Sequence[Array | None], highs: Sequence[Array | None], inplace: bool
) -> Sequence[Array] | None:
    if any(kind.family != "real" for kind in _known.kinds(leaves.arrays)):
        return None
    ends = (
        [infinity if bound is None else float(bound) for bound in bounds]
        for bounds, infinity in ((lows, -math.inf), (highs, math.inf))
    )
    return leaves.backend.clip(leaves.backend.xp, leaves.arrays, *ends, inplace)


def _clipped(
    backend: Backend,
    _: int | None,
    arrays: Sequence[Array],
    lows: Sequence[Array | None],
    highs: Sequence[Array | None],
    loss_scale: Scalar | None,
) -> Sequence[Array]:
    xp = backend.xp
    if loss_scale is not None:
        arrays = backend.scale(xp, arrays, _unscaling(backend, arrays, loss_scale))
    clipped = []
    for leaf, low, high in zip(arrays, lows, highs, strict=True):
        # An entry that is not ordered with itself is NaN and stays; one that is not ordered with
        # the bound meets a NaN bound, and becomes NaN.
        y: Any = leaf
        if high is not None:
            y = xp.where((y <= high) | (y != y), y, high)
        if low is not None:
            y = xp.where((y >= low) | (y != y), y, low)
        clipped.append(y)
    return clipped


def _unscaling(backend: Backend, arrays: Sequence[Array], loss_scale: Scalar) -> Factor:
    if not isinstance(loss_scale, float):
        xp = backend.xp
        loss_scale = _kernels.cast(xp, loss_scale, backend.wide(xp, arrays[0]))
    part = (None, 1.0 / loss_scale)
    return Factor(narrow=part, wide=part)


def _copied(
    backend: Backend,
    block: int | None,
    arrays: Sequence[Array],
    lows: Sequence[Array | None],
    highs: Sequence[Array | None],
    loss_scale: Scalar | None,
) -> Sequence[Array]:
    """Return new leaves, clipped block by block: what is compared stays in cache."""
    new = [backend.xp.asarray(leaf, copy=True) for leaf in arrays]
    return _overwritten(backend, block, new, lows, highs, loss_scale)


def _overwritten(
    backend: Backend,
    block: int | None,
    arrays: Sequence[Array],
    lows: Sequence[Array | None],
    highs: Sequence[Array | None],
    loss_scale: Scalar | None,
) -> Sequence[Array]:
    written: set[int] = set()
    for leaf, low, high in zip(arrays, lows, highs, strict=True):
        if id(leaf) in written:
            continue
        written.add(id(leaf))
        for piece in _kernels.pieces(leaf, block or math.prod(leaf.shape)):
            (new,) = _clipped(backend, None, [piece], [low], [high], loss_scale)
            _kernels.write(piece, new)
    return arrays
