"""Reductions and products in the forms that XLA's CPU compiler makes fast code of.

The results do not need any of this: anywhere else the default kernels serve. Which they are is
decided where a program is lowered for a platform: while it is traced nothing tells where its arrays
will be, and JAX's default backend is not where they have to be. Measured with jaxlib 0.10 on
x86-64.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from agclip import adapters
from agclip.adapters import Factor
from agclip_backends.jax import places
from agclip_backends.jax.reductions import MAX, SUM, Function, Totals, reduced

ROWS = 8
"""Pieces that a sum over the first axis is made of, and what comes out once more.

XLA evaluates what it fuses 15 times at most: with 64 pieces 256 examples took three times as long,
and 512 of them 16 times.
"""
_MANY = 1 << 15
"""Elements of an array from which on they are more than one."""


def sum_squares(xp: Any, leaves: Sequence[Any], acc_dtype: Any, scale: Any) -> Sequence[Any]:
    """Return Σ (scale·|x|)² of each leaf, formed in `acc_dtype`."""

    def squares(x: Any) -> list[Any]:
        halves = adapters.real_parts(xp, x)
        ys = [adapters.scaled(adapters.cast(xp, half, acc_dtype), scale) for half in halves]
        return [functools.reduce(jnp.add, [y * y for y in ys])]

    return Totals(leaves, squares)


def abs_max(xp: Any, leaves: Sequence[Any], acc_dtype: Any) -> Sequence[Any]:
    """Return max |x| of each leaf in `acc_dtype`; complex: of the two parts."""

    def sizes(x: Any) -> list[Any]:
        return [functools.reduce(jnp.maximum, map(jnp.abs, adapters.real_parts(xp, x)))]

    return [largest.astype(acc_dtype) for (largest,) in reduced(leaves, sizes, MAX)]


def sums(_: Any, leaves: Sequence[Any], function: Function) -> list[list[Any]]:
    """Return, for each leaf, the sums of the arrays that an elementwise function makes of it."""
    return reduced(leaves, function, SUM)


def rows(x: Any) -> int:
    """Return of how many pieces a sum over the first axis is made.

    XLA's reduction over the rows of a large matrix takes seventy times as long as adding them.
    """
    return ROWS if x.size >= _MANY and places.whole() else 1


def total(_: Any, values: Sequence[Any]) -> Any:
    """Return the sum of scalars."""
    whole = values.whole() if isinstance(values, Totals) else adapters.total(jnp, values)
    return held_once(whole)


def scale(xp: Any, leaves: Sequence[Any], factor: Factor) -> Sequence[Any]:
    """Return each leaf times the factor."""
    once = Factor(_held(factor.narrow, jnp.float32), _held(factor.wide, jnp.float64))
    new = []
    for leaf in leaves:
        # Times a complex number, -0 would become 0, and an infinity beside a 0 a NaN.
        parts = [leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf]
        scaled = adapters.scale(xp, parts, once)
        new.append(scaled[0] if len(parts) == 1 else jax.lax.complex(*scaled))
    return new


def _held(pair: tuple[Any, Any], dtype: Any) -> tuple[Any, Any]:
    """Return the two parts of a coefficient, which XLA computes in one loop if they are scalars."""
    pre, rest = pair
    rest = jnp.asarray(rest, dtype)
    if pre is None:
        return None, held_once(rest)
    pre = jnp.asarray(pre, dtype)
    if pre.ndim or rest.ndim:
        return held_once(pre), held_once(rest)
    # Not a concatenation, before which XLA would write both.
    zero = jnp.zeros((), dtype)
    first, second = jax.lax.pad(pre[None], zero, [(0, 1, 0)]), rest[None]
    both = held_once(first + jax.lax.pad(second, zero, [(1, 0, 0)]))
    return both[0], both[1]


def held_once(x: Any) -> Any:
    """Return a scalar that XLA computes once.

    It repeats cheap arithmetic in every consumer, the coefficient anew for each element of each
    leaf, and takes minutes to compile that for 1000 leaves; but it does not repeat a division.
    """
    if x.dtype == jnp.bool:
        return held_once(x.astype(jnp.float32)) > 0
    return x / jnp.where(jnp.isnan(x), 2.0, 1.0).astype(x.dtype)
