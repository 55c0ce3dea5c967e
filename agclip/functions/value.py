"""Clipping by value: every element into an interval."""

from __future__ import annotations

from typing import overload

from agclip._clipping import by_value
from agclip._trees.gather import gather
from agclip._trees.tree import materialised
from agclip._typing import Array, Bound, Number, Numbers, T


@overload
def clip_by_value(
    t: Numbers, clip_value_min: Bound, clip_value_max: Bound, *, loss_scale: Number | None = ...
) -> Array: ...
@overload
def clip_by_value(
    t: T, clip_value_min: Bound, clip_value_max: Bound, *, loss_scale: Number | None = ...
) -> T: ...
def clip_by_value(
    t: T, clip_value_min: Bound, clip_value_max: Bound, *, loss_scale: Number | None = None
) -> T:
    """Clip every element into [clip_value_min, clip_value_max].

    ```
    out = max(min(t, clip_value_max), clip_value_min)
    ```

    NaN stays NaN. The derivative is 1 where the element lies within the bounds, these included, and
    0 elsewhere. Integer arrays stay integers and are clipped exactly.

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

    Example:
        >>> agclip.clip_by_value(np.array([-3.0, 0.5, 4.0]), -1, 1).tolist()
        [-1.0, 0.5, 1.0]

    Source: TensorFlow's `tf.clip_by_value`.
    """
    leaves = gather(t, "t", families=("real", "integer"))
    new = by_value.clip(leaves, clip_value_min, clip_value_max, loss_scale, inplace=False)
    result: T = leaves.rebuild(new)
    return result


def clip_by_value_(
    t: T, clip_value_min: Bound, clip_value_max: Bound, *, loss_scale: Number | None = None
) -> T:
    """Clip every element into [clip_value_min, clip_value_max], in place.

    As `clip_by_value`, but the leaves are overwritten. Nothing is written unless every check holds.

    Args:
        t: A tree of arrays that can be written.
        clip_value_min: Lower bound: a number, or an array that broadcasts to every leaf; None for
            none.
        clip_value_max: Upper bound, likewise.
        loss_scale: The positive number that `None` comes in multiplied by; it goes out divided by
            it.

    Returns:
        `t` itself.

    Raises:
        TypeError: If a leaf is bool, complex or no array, or cannot be overwritten, or if a bound
            does not fit the leaves.
        ValueError: If a bound is NaN, if the bounds cross, or if an array of bounds does not
            broadcast.

    Example:
        >>> t = np.array([-3.0, 0.5, 4.0])
        >>> agclip.clip_by_value_(t, -1, 1) is t, t.tolist()
        (True, [-1.0, 0.5, 1.0])
    """
    t = materialised(t)
    leaves = gather(t, "t", families=("real", "integer"), inplace=True)
    by_value.clip(leaves, clip_value_min, clip_value_max, loss_scale, inplace=True)
    return t
