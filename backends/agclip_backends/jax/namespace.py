"""`jax.numpy`, with a maximum that keeps NaN, and sums along axes that are fast on the CPU.

On the CPU jaxlib 0.10 loses a NaN among a few thousand elements, at times with all others: the
maximum of 9999 ones and a NaN is -inf.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp

from agclip_backends.jax import places

LARGE = 1 << 15
"""Elements of an array from which on a sum along axes is made of pieces."""
PIECES = 8
"""At most: XLA fuses what the pieces are cut from if it is evaluated no more than 15 times."""


def __getattr__(name: str) -> Any:
    return getattr(jnp, name)


def max(
    x: Any,
    /,
    *,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    initial: float | None = None,
) -> Any:
    """Return the maximum along axes, NaN where an element is."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.max(x, axis=axis, keepdims=keepdims, initial=initial)
    missing = jnp.isnan(x)
    largest = jnp.max(jnp.where(missing, jnp.inf, x), axis=axis, keepdims=keepdims, initial=initial)
    return jnp.where(jnp.any(missing, axis=axis, keepdims=keepdims), jnp.nan, largest)


def sum(
    x: Any, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, **options: Any
) -> Any:
    """Return the sum along axes.

    XLA's CPU compiler adds element by element along the last axis, and is slower yet along the
    first one of a large matrix. Pieces of equal size are added as vectors, and what is left then.
    """
    plain: Any = functools.partial(jnp.sum, axis=axis, keepdims=keepdims, **options)
    along = () if axis is None else (axis,) if isinstance(axis, int) else axis
    if options or x.dtype not in (jnp.float32, jnp.float64) or not places.whole([x]):
        return plain(x)
    cut = None if x.size < LARGE else _cut(x.shape, along)
    if cut is None:
        return plain(x)

    def cpu(x: Any) -> Any:
        pieces = jnp.split(x, cut[1], axis=cut[0])
        y = functools.reduce(operator.add, pieces)
        # The selection keeps XLA's reductions in one loop with this: see `reductions`.
        return plain(jnp.where(jnp.isnan(y), jnp.nan, y))

    return jax.lax.platform_dependent(x, cpu=cpu, default=plain)


def _cut(shape: tuple[int, ...], along: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the axis that is cut, and into how many pieces; None if no axis comes out even."""
    for count in range(PIECES, 1, -1):
        for axis in along:
            if shape[axis] % count == 0:
                return axis, count
    return None
