"""Reductions of whole leaves in the forms that XLA's CPU compiler makes fast code of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agclip import adapters
from agclip_backends import _alike
from agclip_backends.jax import namespace, places

Function = Callable[[Any], Sequence[Any]]

SMALL = 1 << 10
"""Leaves up to this many elements are stacked: one reduction of all costs less than one of each."""
LARGE = 1 << 12
"""Leaves from this many elements on are folded before they are summed."""
VAST = 1 << 17
"""Leaves from this many elements on are folded twice as often: what comes out is written."""
STREAMS = 8
"""Parts of a leaf that are read side by side when it is folded."""
WIDE = 1 << 16
"""Leaves up to this many elements are added to each other where one sum is of all."""
MEMBERS = 128
"""Leaves that one loop adds to each other: XLA compiles longer for more than they cost."""
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
    once: bool
    """Whether an element that is taken twice counts twice."""


SUM = Reduction(jnp.add, jnp.sum, once=True)
MAX = Reduction(jnp.maximum, namespace.max, once=False)


class Totals(list[Any]):
    """The sum of each leaf. That of all, if nothing else is asked for, is made of the leaves."""

    def __init__(self, leaves: Sequence[Any], function: Function) -> None:
        """Sum what an elementwise function makes of each leaf, one array."""
        super().__init__(total for (total,) in reduced(leaves, function, SUM))
        self._leaves, self._function = leaves, function

    def whole(self) -> Any:
        """Return the sum of all leaves."""
        if not places.whole(self._leaves):
            return adapters.total(jnp, self)

        def default(*leaves: Any) -> Any:
            sums = [jnp.sum(y) for leaf in leaves for y in self._function(leaf)]
            return adapters.total(jnp, sums)

        def cpu(*leaves: Any) -> Any:
            return _joint(leaves, self._function)

        return jax.lax.platform_dependent(*self._leaves, cpu=cpu, default=default)


def reduced(leaves: Sequence[Any], function: Function, by: Reduction) -> list[list[Any]]:
    """Reduce, for each leaf, the arrays that an elementwise function makes of it."""

    def default(*leaves: Any) -> list[list[Any]]:
        return [[by.reduce(y, initial=0) for y in function(leaf)] for leaf in leaves]

    def cpu(*leaves: Any) -> list[list[Any]]:
        return _reshaped(leaves, function, by)

    if not places.whole(leaves):
        return default(*leaves)
    results: list[list[Any]] = jax.lax.platform_dependent(*leaves, cpu=cpu, default=default)
    return results


def _grouped(leaves: Iterable[Any], largest: int) -> list[list[int]]:
    """Group the positions of leaves of one size and dtype; large ones stay by themselves."""
    return _alike.alike(
        (leaf.size, leaf.dtype) if leaf.size <= largest else None for leaf in leaves
    )


def _reshaped(leaves: Sequence[Any], function: Function, by: Reduction) -> list[list[Any]]:
    results: list[list[Any]] = [[] for _ in leaves]
    for members in _grouped(leaves, SMALL):
        if len(members) > 1:
            rows = function(jnp.stack([leaves[i].reshape(-1) for i in members]))
            columns = [by.reduce(y, axis=1, initial=0) for y in rows]
            for k, i in enumerate(members):
                results[i] = [column[k] for column in columns]
        else:
            results[members[0]] = _of_leaf(leaves[members[0]], function, by)
    return results


def _joint(leaves: Sequence[Any], function: Function) -> Any:
    sums = []
    for positions in _grouped(leaves, WIDE):
        members = [_flat(leaves[i]) for i in positions]
        if len(members) > MEMBERS and members[0].size <= SMALL:
            (y,) = function(jnp.stack(members))
            sums.append(jnp.sum(y))
        elif len(members) >= STREAMS // 2 or (len(members) > 1 and members[0].size < LARGE):
            for start in range(0, len(members), MEMBERS):
                some = members[start : start + MEMBERS]
                added = adapters.total(jnp, [y for leaf in some for y in function(leaf)])
                sums.append(_by_loops(added, SUM))
        else:
            sums += [total for leaf in members for total in _of_leaf(leaf, function, SUM)]
    return adapters.total(jnp, sums)


def _flat(x: Any) -> Any:
    # XLA would take the reshaping back, and is ten times slower along axes of length one.
    barrier: Any = jax.lax.optimization_barrier
    return barrier(x.reshape(-1))


def _by_loops(y: Any, by: Reduction) -> Any:
    """Reduce what a loop makes; a NaN stays one.

    Without the selection XLA hands what the loop reads over to the library that does its
    reductions, which wants a copy of each.
    """
    return by.reduce(jnp.where(jnp.isnan(y), jnp.nan, y)) if y.size != 1 else y.reshape(())


def _of_leaf(x: Any, function: Function, by: Reduction) -> list[Any]:
    # bfloat16 is not folded: XLA would widen the whole leaf before it slices it.
    if x.size >= LARGE and x.dtype != jnp.bfloat16:
        return [_by_loops(y, by) for y in _folded(_flat(x), function, by)]
    return [by.reduce(y, initial=0) for y in function(_flat(x))]


def _folded(x: Any, function: Function, by: Reduction) -> list[Any]:
    """Reduce a vector to a shorter one: streams side by side, which become vector instructions.

    The last one begins within the one before it, unless they come out even.
    """
    streams = STREAMS if x.size < VAST else 2 * STREAMS
    width = -(-x.size // (streams * _LINE)) * _LINE
    if width % _PAGE == 0:
        width += _LINE
    last = x.size - width
    again = (streams - 1) * width - last
    starts = [k * width for k in range(streams - 1)]
    parts = [function(jax.lax.slice(x, (start,), (start + width,))) for start in [*starts, last]]
    if again and by.once:
        fresh = jax.lax.iota(jnp.int32, width) >= again
        parts[-1] = [jnp.where(fresh, y, jnp.zeros_like(y)) for y in parts[-1]]
    return [functools.reduce(by.combine, column) for column in zip(*parts, strict=True)]
