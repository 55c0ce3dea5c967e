"""Clipping each leaf by its own norm, of any order, whole or along axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack, overload

from agclip._clipping import arguments, axis_arguments, pipeline
from agclip._trees.gather import gather
from agclip._trees.tree import materialised
from agclip._typing import Array, Bound, LeafOptions, NonFinite, Number, Numbers, Order, T


@overload
def clip_by_norm(
    t: Numbers,
    clip_norm: Bound,
    axes: int | Sequence[int] | None = ...,
    *,
    ord: Order = ...,
    **options: Unpack[LeafOptions],
) -> Array: ...
@overload
def clip_by_norm(
    t: T,
    clip_norm: Bound,
    axes: int | Sequence[int] | None = ...,
    *,
    ord: Order = ...,
    **options: Unpack[LeafOptions],
) -> T: ...
def clip_by_norm(
    t: T,
    clip_norm: Bound,
    axes: int | Sequence[int] | None = None,
    *,
    ord: Order = 2,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> T:
    """Clip each leaf to a maximum norm.

    ```
    n = (Σ |t_i|^ord)^(1/ord)          over the whole leaf, or over `axes`
    out = t · clip_norm / n  if n > clip_norm  else  t
    ```

    A leaf within the bound keeps its bits; where values can be read for nothing (NumPy, PyTorch on
    the CPU) it is returned itself. The norm neither overflows nor underflows, and the derivative at
    an all-zero leaf is the identity.

    Args:
        t: A tree of real or complex floating-point arrays of any shape. A nested list of Python
            numbers is one float32 array.
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        axes: The axes a norm is taken over; None for all. Every slice along them is clipped on its
            own.
        ord: The order of the norm: a number > 0, `inf` or "inf" for the largest absolute value.
        nonfinite: What becomes of a leaf (or slice) with a NaN or an infinity: "propagate" makes
            every element NaN, "error" raises, "zero" zeroes it, "skip" leaves it as it is; None for
            what is configured, which is "propagate" by default.
        strict: Shrink the coefficient by a few units of roundoff (2.25 of float32, 16 of float64,
            one more of a half type), so that the exact norm of the result is within the bound and
            clipping twice changes no bit; None for what is configured.
        reproducible: Sum exactly, after one rounding of each term to a common grid: the norm has
            the same bits in every library and for every order of leaves, chunking and number of
            threads; None for what is configured.
        loss_scale: The positive number that `t` comes in multiplied by; it goes out divided by it.

    Returns:
        The same tree with leaves of the same library, shape, dtype and device.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, if libraries are mixed, or if
            `clip_norm` is not a number.
        ValueError: If `clip_norm` is negative, NaN or not a scalar, or an axis does not exist.
        FloatingPointError: If a leaf is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Example:
        >>> agclip.clip_by_norm({"w": np.array([3.0, 4.0])}, 1.0)["w"].tolist()
        [0.6000000000000001, 0.8]

    Source: TensorFlow's `tf.clip_by_norm`; R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of
    training recurrent neural networks", 2013, arXiv:1211.5063.
    """
    leaves = gather(t, "t")
    chosen = axis_arguments.of_leaves(axes, leaves)
    plan = arguments.options(leaves, clip_norm, ord, nonfinite, strict, reproducible, axes=chosen)
    result: T = pipeline.run(leaves, plan, "clip_norm", clip_norm, loss_scale).tree()
    return result


def clip_by_norm_(
    t: T,
    clip_norm: Bound,
    axes: int | Sequence[int] | None = None,
    *,
    ord: Order = 2,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> T:
    """Clip each leaf to a maximum norm, in place.

    As `clip_by_norm`, but the leaves are overwritten. Nothing is written unless every check holds.

    Args:
        t: A tree of arrays that can be written.
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        axes: The axes a norm is taken over; None for all.
        ord: The order of the norm: a number > 0, `inf` or "inf" for the largest absolute value.
        nonfinite: What becomes of a leaf (or slice) with a NaN or an infinity: "propagate",
            "error", "zero" or "skip"; None for what is configured.
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
        ValueError: If `clip_norm` is negative, NaN or not a scalar, or an axis does not exist.
        FloatingPointError: If a leaf is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Example:
        >>> t = np.array([3.0, 4.0])
        >>> agclip.clip_by_norm_(t, 2.5) is t, t.tolist()
        (True, [1.5, 2.0])
    """
    t = materialised(t)
    leaves = gather(t, "t", inplace=True)
    chosen = axis_arguments.of_leaves(axes, leaves)
    plan = arguments.options(leaves, clip_norm, ord, nonfinite, strict, reproducible, axes=chosen)
    pipeline.run(leaves, plan, "clip_norm", clip_norm, loss_scale, inplace=True).write()
    return t
