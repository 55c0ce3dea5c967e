"""Reductions and products in the forms that XLA's CPU compiler makes fast code of.

The results do not need any of this: anywhere else the default kernels serve. Which they are is
decided where a program is lowered for a platform: while it is traced nothing tells where its arrays
will be, and JAX's default backend is not where they have to be. Measured with jaxlib 0.10 on
x86-64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
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
    return ROWS if places.whole([x]) and x.size >= _MANY else 1


def total(_: Any, values: Sequence[Any]) -> Any:
    """Return the sum of scalars."""
    if len(values) == 1:
        return values[0]  # a reduction is computed once
    whole = values.whole() if isinstance(values, Totals) else adapters.total(jnp, values)
    return held_once(whole)


def scale(xp: Any, leaves: Sequence[Any], factor: Factor) -> Sequence[Any]:
    """Return each leaf times the factor."""
    double = any(leaf.dtype in (jnp.float64, jnp.complex128) for leaf in leaves)
    choice = _choice.get()
    once = Factor(
        _held(factor.narrow, jnp.float32, None if double else choice),
        _held(factor.wide, jnp.float64, choice if double else None),
    )
    new = []
    for leaf in leaves:
        # Times a complex number, -0 would become 0, and an infinity beside a 0 a NaN.
        parts = [leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf]
        scaled = adapters.scale(xp, parts, once)
        new.append(scaled[0] if len(parts) == 1 else jax.lax.complex(*scaled))
    return new


class Choice:
    """A condition on which leaves are multiplied. It is computed together with the coefficient."""

    def __init__(self, predicate: Any) -> None:
        """Take the condition as it is, 0-d."""
        self._predicate = predicate
        self._number: Any = None

    def of(self, if_true: Callable[[], Sequence[Any]], kept: Sequence[Any]) -> Sequence[Any]:
        """Return new leaves where the condition is true, else those that are kept."""
        token = _choice.set(self)
        try:
            new = if_true()
        finally:
            _choice.reset(token)
        held = held_once(self._predicate) if self._number is None else self._number > 0
        return adapters.select(jnp, held, lambda: new, lambda: kept)

    def joined(self, *scalars: Any) -> Sequence[Any]:
        """Return scalars that XLA computes in one loop with the condition."""
        parts = [*scalars, self._predicate.astype(scalars[0].dtype)]
        *others, self._number = _together(parts)
        return others


_choice: ContextVar[Choice | None] = ContextVar("choice", default=None)


def _held(pair: tuple[Any, Any], dtype: Any, choice: Choice | None) -> tuple[Any, Any]:
    """Return the two parts of a coefficient, each of which XLA computes once."""
    parts = [jnp.asarray(part, dtype) for part in pair if part is not None]
    if any(part.ndim for part in parts):
        held: Sequence[Any] = [held_once(part) for part in parts]
    else:
        held = _together(parts) if choice is None else choice.joined(*parts)
    return (None, held[0]) if pair[0] is None else (held[0], held[1])


def _together(scalars: Sequence[Any]) -> Sequence[Any]:
    """Return scalars of one dtype that XLA computes in one loop."""
    if len(scalars) == 1:
        return [held_once(scalars[0])]
    # Not a concatenation, before which XLA would write each.
    zero, after = jnp.zeros((), scalars[0].dtype), len(scalars) - 1
    padded = [jax.lax.pad(x[None], zero, [(k, after - k, 0)]) for k, x in enumerate(scalars)]
    row = held_once(functools.reduce(jnp.add, padded))
    return [row[k] for k in range(len(scalars))]


def held_once(x: Any) -> Any:
    """Return a scalar that XLA computes once.

    It repeats cheap arithmetic in every consumer, the coefficient anew for each element of each
    leaf, and takes minutes to compile that for 1000 leaves; but it does not repeat a division.
    """
    if x.dtype == jnp.bool:
        return held_once(x.astype(jnp.float32)) > 0
    return x / jnp.where(jnp.isnan(x), 2.0, 1.0).astype(x.dtype)
