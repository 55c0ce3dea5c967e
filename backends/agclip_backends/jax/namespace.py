"""`jax.numpy`, with a maximum that keeps NaN.

On the CPU jaxlib 0.10 loses a NaN among a few thousand elements, at times with all others: the
maximum of 9999 ones and a NaN is -inf.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


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
