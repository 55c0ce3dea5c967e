"""optax's four transformations that clip, with norms that are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from agclip._clipping import adaptive, arguments, axis_arguments, by_value, pipeline, weights
from agclip._trees.gather import gather
from agclip._typing import Axes, Tree
from agclip.integrations.optax._pytree import Opened, inexact, number, opened
from agclip.rules import _checks

_LARGEST_RANK = 5


def clip(max_delta: Any) -> optax.GradientTransformation:
    """Clip every element of the updates into [-max_delta, max_delta].

    The function of optax with the same signature. NaN stays NaN. Integer leaves stay integers where
    `max_delta` is one, and become floating-point arrays where it is not.

    Args:
        max_delta: The bound: a number >= 0 or an array that broadcasts to every leaf; infinity or
            None for none.

    Returns:
        The transformation; its state is an `optax.EmptyState`.

    Raises:
        TypeError: If `max_delta` is no number or array. From `update`: if a leaf is complex.
        ValueError: If `max_delta` is negative or NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> from agclip.integrations.optax import clip
        >>> tx = clip(1.0)
        >>> updates = {"w": jnp.asarray([-3.0, 0.5, 4.0])}
        >>> tx.update(updates, tx.init(updates))[0]
        {'w': Array([-1. ,  0.5,  1. ], dtype=float32)}

    Source: optax's `optax.clip`.
    """
    bound = number(max_delta)
    _checks.bound("max_delta", bound)

    def promoted(leaf: Any) -> Any:
        if bound is None or not isinstance(leaf, jax.Array):
            return leaf
        exact = not jnp.issubdtype(leaf.dtype, jnp.inexact)
        return leaf.astype(jnp.result_type(leaf, bound)) if exact else leaf

    def clipped(updates: Opened, params: Any) -> Any:
        leaves = gather(
            updates.map(promoted).tree, "updates", families=("real", "integer"), listed=True
        )
        if getattr(bound, "ndim", 0) == 0:
            arguments.threshold("max_delta", bound, leaves)
        low = None if bound is None else -bound
        return leaves.rebuild(by_value.clip(leaves, low, bound, None, inplace=False))

    return _stateless(clipped)


def clip_by_block_rms(threshold: Any) -> optax.GradientTransformation:
    """Clip every leaf of the updates by its root mean square.

    ```
    n = ‖u_leaf‖₂ / √N                N elements in the leaf
    out = u_leaf · threshold / n  if n > threshold  else  u_leaf
    ```

    The function of optax with the same signature, but for its sums: the norm neither overflows nor
    underflows, and is right at any size. Integer leaves become floating-point arrays.

    Args:
        threshold: The bound: a number >= 0 or a 0-d array; infinity or None for none.

    Returns:
        The transformation; its state is an `optax.EmptyState`.

    Raises:
        TypeError: If `threshold` is no number.
        ValueError: If `threshold` is negative, NaN or not a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from agclip.integrations.optax import clip_by_block_rms
        >>> tx = clip_by_block_rms(1.0)
        >>> updates = {"w": jnp.asarray([6.0, 8.0, 0.0, 0.0])}
        >>> tx.update(updates, tx.init(updates))[0]
        {'w': Array([1.2, 1.6, 0. , 0. ], dtype=float32)}

    Source: optax's `optax.clip_by_block_rms`.
    """
    bound = number(threshold)
    _checks.bound("threshold", bound)

    def clipped(updates: Opened, params: Any) -> Any:
        leaves = gather(updates.map(inexact).tree, "updates", listed=True)
        plan = arguments.options(
            leaves, bound, weights=weights.of_leaves(leaves, weights.root_size)
        )
        return pipeline.run(leaves, plan, "threshold", bound, None).tree()

    return _stateless(clipped)


def clip_by_global_norm(max_norm: Any) -> optax.GradientTransformation:
    """Clip all leaves of the updates by their global norm.

    ```
    n = (Σ over all elements of all leaves |u|²)^(1/2)
    out = u · max_norm / n  if n > max_norm  else  u
    ```

    The function of optax with the same signature, but for its sums: the norm neither overflows nor
    underflows, and is right at any size.

    Args:
        max_norm: The bound: a number >= 0 or a 0-d array; infinity or None for none.

    Returns:
        The transformation; its state is an `optax.EmptyState`.

    Raises:
        TypeError: If `max_norm` is no number. From `update`: if a leaf is an integer array.
        ValueError: If `max_norm` is negative, NaN or not a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from agclip.integrations.optax import clip_by_global_norm
        >>> tx = clip_by_global_norm(2.5)
        >>> updates = {"w": jnp.asarray([3.0]), "b": jnp.asarray([4.0])}
        >>> tx.update(updates, tx.init(updates))[0]
        {'b': Array([2.], dtype=float32), 'w': Array([1.5], dtype=float32)}

    Source: optax's `optax.clip_by_global_norm`.
    """
    bound = number(max_norm)
    _checks.bound("max_norm", bound)

    def clipped(updates: Opened, params: Any) -> Any:
        leaves = gather(updates.tree, "updates", listed=True)
        plan = arguments.options(leaves, bound, joint=True)
        return pipeline.run(leaves, plan, "max_norm", bound, None).tree()

    return _stateless(clipped)


def adaptive_grad_clip(
    clipping: Any, eps: Any = 1e-3, axis: int | tuple[int, ...] | None = None
) -> optax.GradientTransformation:
    """Clip every unit of the updates to a fraction of its parameters' norm.

    ```
    bound_u = clipping · max(‖W_u‖₂, eps)
    out_u = G_u · bound_u / ‖G_u‖₂  if ‖G_u‖₂ > bound_u  else  G_u
    ```

    The function of optax with the same signature, but for its sums, and without a floor under
    ‖G_u‖₂. Integer leaves become floating-point arrays.

    Args:
        clipping: The largest allowed ratio: a number >= 0 or a 0-d array; infinity or None for no
            bound.
        eps: The least norm that a unit's parameters count with: a number >= 0.
        axis: The axes the norm of one unit is taken over, of every leaf. None for all axes of
            scalars and vectors, the first of leaves with two or three, and all but the last of
            leaves with four or five.

    Returns:
        The transformation; its state is an `optax.EmptyState`. Its `update` needs the parameters.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is negative, NaN or not a scalar. From `update`: if there are no
            parameters or they do not belong to the updates, or a leaf lacks an axis or has six or
            more without `axis`.

    Example:
        >>> import jax.numpy as jnp
        >>> from agclip.integrations.optax import adaptive_grad_clip
        >>> tx = adaptive_grad_clip(0.5)
        >>> params = {"w": jnp.asarray([[3.0, 1.0], [4.0, 0.0]])}
        >>> updates = {"w": jnp.asarray([[6.0, 0.1], [8.0, 0.1]])}
        >>> tx.update(updates, tx.init(params), params)[0]
        {'w': Array([[1.5, 0.1],
               [2. , 0.1]], dtype=float32)}

    Source: optax's `optax.adaptive_grad_clip`; A. Brock, S. De, S. L. Smith, K. Simonyan, 2021,
    arXiv:2102.06171.
    """
    ratio, floor = number(clipping), number(eps)
    _checks.bound("clipping", ratio)
    _checks.bound("eps", floor, none="no lower limit")

    def clipped(updates: Opened, params: Any) -> Any:
        if params is None:
            msg = (
                "`params` must be the parameters that `updates` belongs to; got None. Pass them: "
                "tx.update(updates, state, params)."
            )
            raise ValueError(msg)
        leaves = gather(updates.map(inexact).tree, "updates", listed=True)
        leaves.require_dense("where norms are taken along axes")
        pairs = zip(leaves.arrays, leaves.paths(), strict=True)
        axes = tuple(_unit(axis, leaf, path) for leaf, path in pairs)
        plan = arguments.options(leaves, ratio, axes=axes)
        weights = opened(params).map(inexact).only(updates).tree
        outcome = adaptive.run(leaves, plan, weights, ratio, floor, None, inplace=False)
        return outcome.tree()

    return _stateless(clipped)


def _unit(axis: Any, leaf: Any, path: str) -> Axes:
    """Return the axes over which the norm of one unit of a leaf is taken; None for all."""
    if axis is not None:
        return axis_arguments.normalise("axis", axis, leaf.ndim, path)
    if sum(length != 1 for length in leaf.shape) <= 1:
        return None
    if leaf.ndim > _LARGEST_RANK:
        msg = (
            f"`axis` must name the axes of one unit of leaves with more than {_LARGEST_RANK}; got "
            f"None for {tuple(leaf.shape)} at {path}."
        )
        raise ValueError(msg)
    return (0,) if leaf.ndim <= 3 else tuple(range(leaf.ndim - 1))


def _stateless(clipped: Callable[[Opened, Any], Any]) -> optax.GradientTransformation:
    """Return the transformation that a function of the leaves by path makes."""

    def init(params: Tree) -> optax.EmptyState:
        return optax.EmptyState()

    def update(updates: Tree, state: Any, params: Tree | None = None) -> tuple[Tree, Any]:
        found = opened(updates)
        # As in optax nothing is said of a tree without leaves: a partition may have none.
        return updates if found.empty else found.rebuild(clipped(found, params)), state

    return optax.GradientTransformation(init, update)
