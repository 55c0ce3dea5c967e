"""Reductions and products in the forms that XLA's CPU compiler makes fast code of.

The results do not need any of this: anywhere else the default kernels serve. Which they are is
decided where a program is lowered for a platform: while it is traced nothing tells where its arrays
will be, and JAX's default backend is not where they have to be. Measured with jaxlib 0.10 on
x86-64.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agclip import adapters
from agclip.adapters import Factor
from agclip_backends import _alike
from agclip_backends.jax import namespace

Function = Callable[[Any], Sequence[Any]]

SMALL = 1 << 13
"""Leaves up to this many elements are stacked: one reduction of all costs less than one of each."""
LARGE = 1 << 15
"""Leaves from this many elements on are folded before they are summed."""
STREAMS = 16
"""Parts of a leaf that are read side by side when it is folded."""
ROWS = 64
"""Pieces that a sum over the first axis is made of."""
_LINE = 16
"""Elements of float32 in a cache line."""
_PAGE = 512
"""Elements of float64 in a page of 4 KiB: streams a multiple of it apart share cache lines."""


class Reduction(NamedTuple):
    """Two operations that go together."""

    combine: Callable[[Any, Any], Any]
    """Of two arrays, elementwise."""
    reduce: Callable[..., Any]
    """Of one array, along an axis or all."""


SUM = Reduction(jnp.add, jnp.sum)
MAX = Reduction(jnp.maximum, namespace.max)


def sum_squares(xp: Any, leaves: Sequence[Any], acc_dtype: Any, scale: Any) -> Sequence[Any]:
    """Return Σ (scale·|x|)² of each leaf, formed in `acc_dtype`."""

    def squares(x: Any) -> list[Any]:
        halves = adapters.real_parts(xp, x)
        ys = [adapters.scaled(adapters.cast(xp, half, acc_dtype), scale) for half in halves]
        return [functools.reduce(jnp.add, [y * y for y in ys])]

    return [total for (total,) in reduced(leaves, squares, SUM)]


def abs_max(xp: Any, leaves: Sequence[Any], acc_dtype: Any) -> Sequence[Any]:
    """Return max |x| of each leaf in `acc_dtype`; complex: of the two parts."""

    def sizes(x: Any) -> list[Any]:
        return [functools.reduce(jnp.maximum, map(jnp.abs, adapters.real_parts(xp, x)))]

    return [largest.astype(acc_dtype) for (largest,) in reduced(leaves, sizes, MAX)]


def sums(_: Any, leaves: Sequence[Any], function: Function) -> list[list[Any]]:
    """Return, for each leaf, the sums of the arrays that an elementwise function makes of it."""
    return reduced(leaves, function, SUM)


def reduced(leaves: Sequence[Any], function: Function, by: Reduction) -> list[list[Any]]:
    """Reduce, for each leaf, the arrays that an elementwise function makes of it."""

    def default(*leaves: Any) -> list[list[Any]]:
        return [[by.reduce(y, initial=0) for y in function(leaf)] for leaf in leaves]

    def cpu(*leaves: Any) -> list[list[Any]]:
        return _reshaped(leaves, function, by)

    if not _whole():
        return default(*leaves)
    results: list[list[Any]] = jax.lax.platform_dependent(*leaves, cpu=cpu, default=default)
    return results


def _whole() -> bool:
    """Tell whether an array on the CPU is on one device: reshaping might move what is on several.

    The devices of other platforms do not count: nothing is reshaped there.
    """
    try:
        return jax.device_count("cpu") == 1
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return False


def _reshaped(leaves: Sequence[Any], function: Function, by: Reduction) -> list[list[Any]]:
    results: list[list[Any]] = [[] for _ in leaves]
    for places in _grouped(leaves):
        members = [leaves[i] for i in places]
        if len(members) > 1:
            rows = function(jnp.stack([leaf.reshape(-1) for leaf in members]))
            columns = [by.reduce(y, axis=1, initial=0) for y in rows]
            for k, i in enumerate(places):
                results[i] = [column[k] for column in columns]
        else:
            results[places[0]] = _of_leaf(members[0], function, by)
    return results


def _grouped(leaves: Sequence[Any]) -> list[list[int]]:
    """Group the positions of small leaves of one size and dtype; others stay by themselves."""
    return _alike.alike((leaf.size, leaf.dtype) if leaf.size <= SMALL else None for leaf in leaves)


def _of_leaf(x: Any, function: Function, by: Reduction) -> list[Any]:
    # XLA would take the reshaping back, and is ten times slower along axes of length one.
    barrier: Any = jax.lax.optimization_barrier
    x = barrier(x.reshape(-1))
    # bfloat16 is not folded: XLA would widen the whole leaf before it slices it.
    if x.size >= LARGE and x.dtype != jnp.bfloat16:
        return _folded(x, function, by)
    return [by.reduce(y, initial=0) for y in function(x)]


def _folded(x: Any, function: Function, by: Reduction) -> list[Any]:
    """Reduce a vector as streams side by side, which become vector instructions."""
    width = x.size // STREAMS // _LINE * _LINE
    if width % _PAGE == 0:
        width -= _LINE
    ends = [k * width for k in range(STREAMS + 1)]
    streams = [
        function(jax.lax.slice(x, (start,), (end,))) for start, end in itertools.pairwise(ends)
    ]
    folded = [functools.reduce(by.combine, column) for column in zip(*streams, strict=True)]
    # Without the selection XLA hands the streams over to the library that does its reductions,
    # which wants a copy of each.
    whole = [by.reduce(jnp.where(jnp.isnan(y), jnp.nan, y)) for y in folded]
    rest = [by.reduce(y, initial=0) for y in function(x[ends[-1] :])]
    return [by.combine(a, b) for a, b in zip(whole, rest, strict=True)]


def rows(x: Any) -> int:
    """Return of how many pieces a sum over the first axis is made.

    XLA's reduction over the rows of a large matrix takes seventy times as long as adding them.
    """
    return ROWS if x.size >= LARGE and _whole() else 1


def total(_: Any, values: Sequence[Any]) -> Any:
    """Return the sum of scalars."""
    return held_once(adapters.total(jnp, values))


def scale(xp: Any, leaves: Sequence[Any], factor: Factor) -> Sequence[Any]:
    """Return each leaf times the factor."""

    def held(pair: tuple[Any, Any], dtype: Any) -> tuple[Any, Any]:
        pre, rest = (part if part is None else held_once(jnp.asarray(part, dtype)) for part in pair)
        return pre, rest

    once = Factor(held(factor.narrow, jnp.float32), held(factor.wide, jnp.float64))
    new = []
    for leaf in leaves:
        # Times a complex number, -0 would become 0, and an infinity beside a 0 a NaN.
        parts = [leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf]
        scaled = adapters.scale(xp, parts, once)
        new.append(scaled[0] if len(parts) == 1 else jax.lax.complex(*scaled))
    return new


def held_once(x: Any) -> Any:
    """Return a scalar that XLA computes once.

    It repeats cheap arithmetic in every consumer, the coefficient anew for each element of each
    leaf, and takes minutes to compile that for 1000 leaves; but it does not repeat a division.
    """
    if x.dtype == jnp.bool:
        return held_once(x.astype(jnp.float32)) > 0
    return x / jnp.where(jnp.isnan(x), 2.0, 1.0).astype(x.dtype)
