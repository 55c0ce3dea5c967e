"""optax's two functions that clip the gradient of each example, with norms that are right."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from agclip._clipping import arguments, axis_arguments
from agclip._trees.gather import gather
from agclip._trees.leaves import Leaves
from agclip.functions.per_example import clip_per_example
from agclip.integrations.optax._pytree import inexact, number, opened

T = TypeVar("T")


def per_example_global_norm_clip(grads: T, l2_norm_clip: Any) -> tuple[T, jax.Array]:
    """Clip the gradient of every example by its global norm, and sum over the examples.

    ```
    n_b = (Σ over all leaves |g_b|²)^(1/2)
    out = Σ_b g_b · min(1, l2_norm_clip / n_b)
    ```

    The function of optax with the same signature, but for its sums. Integer leaves become
    floating-point arrays.

    Args:
        grads: A pytree of arrays whose leading axis is the example.
        l2_norm_clip: The bound: a number >= 0 or a 0-d array; infinity or None for none.

    Returns:
        The sums; and the number of examples that were clipped or not finite, a 0-d int32 array.

    Raises:
        TypeError: If a leaf is no array, or `l2_norm_clip` no number.
        ValueError: If a leaf has no leading axis or another length, or `l2_norm_clip` is negative,
            NaN or not a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from agclip.integrations.optax import per_example_global_norm_clip
        >>> per_example_global_norm_clip([jnp.asarray([[3.0, 4.0], [0.0, 1.0]])], 2.5)
        ([Array([1.5, 3. ], dtype=float32)], Array(1, dtype=int32))

    Source: optax's `optax.per_example_global_norm_clip`; M. Abadi et al., "Deep learning with
    differential privacy", 2016, arXiv:1607.00133.
    """
    found = opened(grads).map(inexact)
    leaves = gather(found.tree, "grads", listed=True)
    bound = arguments.threshold("l2_norm_clip", number(l2_norm_clip), leaves)
    sums, count = clip_per_example(found.tree, bound)
    total: T = found.rebuild(sums)
    return total, jnp.asarray(count)


def per_example_layer_norm_clip(
    grads: T, global_l2_norm_clip: Any, uniform: bool = True
) -> tuple[T, T]:
    """Clip the gradient of every example leaf by leaf, and sum over the examples.

    ```
    n_bi = ‖g_bi‖₂                                 of example b in leaf i
    c_i = C / √K  if uniform  else  C · √(D_i / D)
    out_i = Σ_b g_bi · min(1, c_i / n_bi)
    ```

    C is `global_l2_norm_clip`, K the number of leaves, and D_i of the D elements of one example are
    in leaf i. The function of optax with the same signature, but for its sums. Integer leaves
    become floating-point arrays.

    Args:
        grads: A pytree of arrays whose leading axis is the example.
        global_l2_norm_clip: The bound on the norm of all leaves together: a number >= 0 or a 0-d
            array; infinity or None for none.
        uniform: Whether all leaves have the same bound.

    Returns:
        The sums; and in a pytree of the same structure the number of examples that were clipped or
        not finite in each leaf.

    Raises:
        TypeError: If a leaf is no array, or `global_l2_norm_clip` no number.
        ValueError: If a leaf has no leading axis or another length, or `global_l2_norm_clip` is
            negative, NaN or not a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from agclip.integrations.optax import per_example_layer_norm_clip
        >>> grads = [jnp.asarray([[3.0, 4.0]]), jnp.ones((1, 1, 1, 1))]
        >>> sums, counts = per_example_layer_norm_clip(grads, 2.0**0.5 * 2.5)
        >>> sums
        [Array([1.5, 2. ], dtype=float32), Array([[[1.]]], dtype=float32)]
        >>> counts
        [Array(1, dtype=int32), Array(0, dtype=int32)]

    Source: optax's `optax.per_example_layer_norm_clip`; H. B. McMahan et al., "Learning
    differentially private recurrent language models", 2017, arXiv:1710.06963.
    """
    found = opened(grads).map(inexact)
    leaves = gather(found.tree, "grads", listed=True)
    axis_arguments.require_examples(leaves)
    bound = arguments.threshold("global_l2_norm_clip", number(global_l2_norm_clip), leaves)
    sums, counts = [], []
    for leaf, share in zip(leaves.arrays, _shares(leaves, uniform=uniform), strict=True):
        (total,), count = clip_per_example([leaf], None if bound is None else bound * share)
        sums.append(total)
        counts.append(count)
    made: tuple[T, T] = (
        found.rebuild(leaves.rebuild(sums)),
        found.rebuild(leaves.rebuild(counts)),
    )
    return made


def _shares(leaves: Leaves, *, uniform: bool) -> list[float]:
    """Return what the bound is multiplied by for each leaf."""
    if uniform:
        return [1.0 / math.sqrt(len(leaves.arrays)) for _ in leaves.arrays]
    sizes = [math.prod(leaf.shape[1:]) for leaf in leaves.arrays]
    return [math.sqrt(size / max(sum(sizes), 1)) for size in sizes]
