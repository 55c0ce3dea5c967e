"""Clipping each leaf by its L2 norm in relation to its size: average norm, root mean square."""

from __future__ import annotations

from typing import Unpack, overload

from agclip._clipping import arguments, pipeline, weights
from agclip._trees.gather import gather
from agclip._trees.tree import materialised
from agclip._typing import Array, Bound, LeafOptions, NonFinite, Number, Numbers, T


@overload
def clip_by_average_norm(t: Numbers, clip_norm: Bound, **options: Unpack[LeafOptions]) -> Array: ...
@overload
def clip_by_average_norm(t: T, clip_norm: Bound, **options: Unpack[LeafOptions]) -> T: ...
def clip_by_average_norm(
    t: T,
    clip_norm: Bound,
    *,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> T:
    """Clip each leaf to a maximum average L2 norm, as TensorFlow defines it.

    ```
    a = sqrt(Σ t_i²) / size(t)
    out = t · clip_norm / a  if a > clip_norm  else  t
    ```

    The average norm is the L2 norm over the number of elements, not over its square root: that is
    `clip_by_rms`. It equals `clip_by_norm(t, clip_norm * size(t))`.

    Args:
        t: A tree of real or complex floating-point arrays of any shape.
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        nonfinite: What becomes of a leaf with a NaN or an infinity: "propagate", "error", "zero" or
            "skip"; None for what is configured.
        strict: Whether the exact norm of the result is kept within the bound; None for what is
            configured.
        reproducible: Whether the norm has the same bits from every library, order and thread count;
            None for what is configured.
        loss_scale: The positive number that `t` comes in multiplied by; it goes out divided by it.

    Returns:
        The same tree with leaves of the same library, shape, dtype and device.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, if libraries are mixed, or if
            `clip_norm` is not a number.
        ValueError: If `clip_norm` is negative, NaN or not a scalar.
        FloatingPointError: If a leaf is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Example:
        >>> agclip.clip_by_average_norm(np.array([3.0, 4.0]), 1.25).tolist()
        [1.5, 2.0]

    Source: TensorFlow's `tf.compat.v1.clip_by_average_norm`.
    """
    leaves = gather(t, "t")
    each = weights.of_leaves(leaves, weights.size)
    plan = arguments.options(leaves, clip_norm, 2, nonfinite, strict, reproducible, weights=each)
    result: T = pipeline.run(leaves, plan, "clip_norm", clip_norm, loss_scale).tree()
    return result


def clip_by_average_norm_(
    t: T,
    clip_norm: Bound,
    *,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> T:
    """Clip each leaf to a maximum average L2 norm, in place.

    As `clip_by_average_norm`, but the leaves are overwritten. Nothing is written unless every check
    holds.

    Args:
        t: A tree of arrays that can be written.
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        nonfinite: What becomes of a leaf with a NaN or an infinity: "propagate", "error", "zero" or
            "skip"; None for what is configured.
        strict: Whether the exact norm of the result is kept within the bound; None for what is
            configured.
        reproducible: Whether the norm has the same bits from every library, order and thread count;
            None for what is configured.
        loss_scale: The positive number that `t` comes in multiplied by; it goes out divided by it.

    Returns:
        `t` itself.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, or cannot be overwritten, if libraries
            are mixed, or if `clip_norm` is not a number.
        ValueError: If `clip_norm` is negative, NaN or not a scalar.
        FloatingPointError: If a leaf is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Example:
        >>> t = np.array([3.0, 4.0])
        >>> agclip.clip_by_average_norm_(t, 1.25) is t, t.tolist()
        (True, [1.5, 2.0])
    """
    t = materialised(t)
    leaves = gather(t, "t", inplace=True)
    each = weights.of_leaves(leaves, weights.size)
    plan = arguments.options(leaves, clip_norm, 2, nonfinite, strict, reproducible, weights=each)
    pipeline.run(leaves, plan, "clip_norm", clip_norm, loss_scale, inplace=True).write()
    return t


@overload
def clip_by_rms(t: Numbers, clip_rms: Bound, **options: Unpack[LeafOptions]) -> Array: ...
@overload
def clip_by_rms(t: T, clip_rms: Bound, **options: Unpack[LeafOptions]) -> T: ...
def clip_by_rms(
    t: T,
    clip_rms: Bound,
    *,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> T:
    """Clip each leaf to a maximum root mean square.

    ```
    r = sqrt(Σ |t_i|² / size(t))
    out = t · clip_rms / r  if r > clip_rms  else  t
    ```

    Args:
        t: A tree of real or complex floating-point arrays of any shape.
        clip_rms: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        nonfinite: What becomes of a leaf with a NaN or an infinity: "propagate", "error", "zero" or
            "skip"; None for what is configured.
        strict: Whether the exact norm of the result is kept within the bound; None for what is
            configured.
        reproducible: Whether the norm has the same bits from every library, order and thread count;
            None for what is configured.
        loss_scale: The positive number that `t` comes in multiplied by; it goes out divided by it.

    Returns:
        The same tree with leaves of the same library, shape, dtype and device.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, if libraries are mixed, or if
            `clip_norm` is not a number.
        ValueError: If `clip_norm` is negative, NaN or not a scalar.
        FloatingPointError: If a leaf is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Example:
        >>> agclip.clip_by_rms(np.full(4, 3.0), 1.5).tolist()
        [1.5, 1.5, 1.5, 1.5]

    Source: N. Shazeer, M. Stern, "Adafactor: Adaptive learning rates with sublinear memory cost",
    2018, arXiv:1804.04235, section 6; optax's `clip_by_block_rms`.
    """
    leaves = gather(t, "t")
    each = weights.of_leaves(leaves, weights.root_size)
    plan = arguments.options(leaves, clip_rms, 2, nonfinite, strict, reproducible, weights=each)
    result: T = pipeline.run(leaves, plan, "clip_rms", clip_rms, loss_scale).tree()
    return result


def clip_by_rms_(
    t: T,
    clip_rms: Bound,
    *,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> T:
    """Clip each leaf to a maximum root mean square, in place.

    As `clip_by_rms`, but the leaves are overwritten. Nothing is written unless every check holds.

    Args:
        t: A tree of arrays that can be written.
        clip_rms: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        nonfinite: What becomes of a leaf with a NaN or an infinity: "propagate", "error", "zero" or
            "skip"; None for what is configured.
        strict: Whether the exact norm of the result is kept within the bound; None for what is
            configured.
        reproducible: Whether the norm has the same bits from every library, order and thread count;
            None for what is configured.
        loss_scale: The positive number that `t` comes in multiplied by; it goes out divided by it.

    Returns:
        `t` itself.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, or cannot be overwritten, if libraries
            are mixed, or if `clip_norm` is not a number.
        ValueError: If `clip_norm` is negative, NaN or not a scalar.
        FloatingPointError: If a leaf is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Example:
        >>> t = np.full(4, 3.0)
        >>> agclip.clip_by_rms_(t, 1.5) is t, t.tolist()
        (True, [1.5, 1.5, 1.5, 1.5])
    """
    t = materialised(t)
    leaves = gather(t, "t", inplace=True)
    each = weights.of_leaves(leaves, weights.root_size)
    plan = arguments.options(leaves, clip_rms, 2, nonfinite, strict, reproducible, weights=each)
    pipeline.run(leaves, plan, "clip_rms", clip_rms, loss_scale, inplace=True).write()
    return t
