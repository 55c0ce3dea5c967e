"""Clipping each leaf by its L2 norm in relation to its size: average norm, root mean square."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Unpack, overload

from agclip._clipping import arguments, pipeline
from agclip._clipping.plan import Plan
from agclip._trees.gather import gather
from agclip._trees.leaves import Leaves
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

    The average norm is the L2 norm over the number of entries, not over its square root: that is
    `clip_by_rms`. It equals `clip_by_norm(t, clip_norm * size(t))`.

    Args:
        t: A tree of real or complex floating-point arrays of any shape.
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        nonfinite: As for `clip_by_norm`.
        strict: As for `clip_by_norm`.
        reproducible: As for `clip_by_norm`.
        loss_scale: As for `clip_by_norm`.

    Returns:
        The same tree with leaves of the same library, shape, dtype and device.

    Raises:
        TypeError: As `clip_by_norm`.
        ValueError: As `clip_by_norm`.
        FloatingPointError: As `clip_by_norm`.
        NotImplementedError: As `clip_by_norm`.

    Source: TensorFlow's `tf.compat.v1.clip_by_average_norm`.
    """
    leaves = gather(t, "t")
    plan = _weighted(leaves, size, clip_norm, strict, nonfinite, reproducible)
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
        clip_norm: As for `clip_by_average_norm`.
        nonfinite: As for `clip_by_norm`.
        strict: As for `clip_by_norm`.
        reproducible: As for `clip_by_norm`.
        loss_scale: As for `clip_by_norm`.

    Returns:
        `t` itself.

    Raises:
        TypeError: As `clip_by_norm_`.
        ValueError: As `clip_by_norm`.
        FloatingPointError: As `clip_by_norm`.
        NotImplementedError: As `clip_by_norm_`.
    """
    t = materialised(t)
    leaves = gather(t, "t", inplace=True)
    plan = _weighted(leaves, size, clip_norm, strict, nonfinite, reproducible)
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
        nonfinite: As for `clip_by_norm`.
        strict: As for `clip_by_norm`.
        reproducible: As for `clip_by_norm`.
        loss_scale: As for `clip_by_norm`.

    Returns:
        The same tree with leaves of the same library, shape, dtype and device.

    Raises:
        TypeError: As `clip_by_norm`.
        ValueError: As `clip_by_norm`.
        FloatingPointError: As `clip_by_norm`.
        NotImplementedError: As `clip_by_norm`.

    Source: N. Shazeer, M. Stern, "Adafactor: Adaptive learning rates with sublinear memory cost",
    2018, arXiv:1804.04235, section 6; optax's `clip_by_block_rms`.
    """
    leaves = gather(t, "t")
    plan = _weighted(leaves, root_size, clip_rms, strict, nonfinite, reproducible)
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
        clip_rms: As for `clip_by_rms`.
        nonfinite: As for `clip_by_norm`.
        strict: As for `clip_by_norm`.
        reproducible: As for `clip_by_norm`.
        loss_scale: As for `clip_by_norm`.

    Returns:
        `t` itself.

    Raises:
        TypeError: As `clip_by_norm_`.
        ValueError: As `clip_by_norm`.
        FloatingPointError: As `clip_by_norm`.
        NotImplementedError: As `clip_by_norm_`.
    """
    t = materialised(t)
    leaves = gather(t, "t", inplace=True)
    plan = _weighted(leaves, root_size, clip_rms, strict, nonfinite, reproducible)
    pipeline.run(leaves, plan, "clip_rms", clip_rms, loss_scale, inplace=True).write()
    return t


def size(leaf: Array) -> float:
    """Return how many entries a leaf has, 1 for an empty one.

    Where a program is traced for more shapes than one, that is a symbol, and stays one.
    """
    count: Any = max(math.prod(leaf.shape), 1)
    number: float = float(count) if isinstance(count, int) else count * 1.0
    return number


def root_size(leaf: Array) -> float:
    """Return the square root of the number of entries."""
    count: Any = size(leaf)
    root: float = math.sqrt(count) if isinstance(count, float) else count**0.5
    return root


def _weighted(
    leaves: Leaves,
    weight: Callable[[Array], float],
    bound: Any,
    strict: bool | None,
    nonfinite: NonFinite | None,
    reproducible: bool | None,
) -> Plan:
    return Plan(
        weights=weights(leaves, weight),
        strict=arguments.check_strict(strict, leaves),
        nonfinite=arguments.policy(nonfinite, bound),
        reproducible=arguments.check_reproducible(reproducible, 2.0, leaves),
    )


def weights(leaves: Leaves, weight: Callable[[Array], float]) -> tuple[float, ...]:
    """Return what the bound on each leaf is multiplied by.

    Raises:
        ValueError: If the size of a leaf is not known.
    """
    for i, leaf in enumerate(leaves.arrays):
        # Not `isnan`: a compiler's symbol of a size is no number yet.
        if (count := math.prod(leaf.shape)) != count:
            msg = (
                f"`{leaves.name}` must have a known size; got shape {tuple(leaf.shape)} at "
                f"{leaves.path(i)}. Let the library compute the shape first."
            )
            raise ValueError(msg)
    return tuple(weight(leaf) for leaf in leaves.arrays)
