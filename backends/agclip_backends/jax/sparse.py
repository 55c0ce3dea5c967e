"""JAX's sparse arrays: what they store, and their entries of one place added up.

They are nodes of a pytree to JAX; here each is one leaf, whose indices are no gradients. How many
places there are is not known while a program is traced, so that as many values come out as go in.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from agclip.adapters import Merged, Sparse

_LIBRARY = "jax.experimental.sparse"


def stored(objects: Sequence[Any], types: set[type]) -> list[Sparse | None] | None:
    """Return what sparse arrays among the objects store."""
    library: Any = sys.modules.get(_LIBRARY)
    if library is None or not any(issubclass(cls, library.JAXSparse) for cls in types):
        return None
    known = (library.BCOO, library.BCSR)
    found = [_stored(library, x) if isinstance(x, known) else None for x in objects]
    return None if all(part is None for part in found) else found


def refuse(x: Any) -> str | None:
    """Return why a sparse array is not taken; None if it is no sparse array."""
    library: Any = sys.modules.get(_LIBRARY)
    if library is None or not isinstance(x, library.JAXSparse):
        return None
    name = f"a {_LIBRARY}.{type(x).__name__}"
    known = isinstance(x, (library.BCOO, library.BCSR))
    return f"is {name}" if known else f"is {name}, and only BCOO and BCSR are known,"


def _stored(library: Any, x: Any) -> Sparse:
    by_row = isinstance(x, library.BCSR)
    cls, places = (library.BCSR, (x.indices, x.indptr)) if by_row else (library.BCOO, (x.indices,))

    def rebuild(new: Any) -> Any:
        return cls(
            (new, *places),
            shape=x.shape,
            indices_sorted=x.indices_sorted,
            unique_indices=x.unique_indices,
        )

    def merged(dtype: Any) -> Merged:
        indices = _pairs(*places, x.shape[x.n_batch]) if by_row else x.indices
        found: Merged = _merged(
            x.data, indices, x.shape, x.n_batch, x.n_dense, x.unique_indices, dtype
        )
        return found

    return Sparse(x, x.data, float(max(math.prod(x.shape), 1)), merged, rebuild)


@functools.partial(jax.jit, static_argnums=2)
def _pairs(indices: Any, indptr: Any, rows: int) -> Any:
    """Return row and column of each entry; the row behind the last one for a slot without entry."""

    def of_matrix(columns: Any, ends: Any) -> Any:
        slots = jnp.arange(columns.shape[0], dtype=ends.dtype)
        row = jnp.searchsorted(ends, slots, side="right") - 1
        row = jnp.where(slots < ends[-1], row, rows)
        return jnp.stack([row.astype(jnp.int64), columns.astype(jnp.int64)], axis=-1)

    batch: Any = jnp.broadcast_shapes(indices.shape[:-1], indptr.shape[:-1])
    flat = [jnp.broadcast_to(a, (*batch, a.shape[-1])) for a in (indices, indptr)]
    if not math.prod(batch):
        return jnp.zeros((*batch, indices.shape[-1], 2), jnp.int64)
    both = jax.vmap(of_matrix)(*(a.reshape(-1, a.shape[-1]) for a in flat))
    return both.reshape(*batch, -1, 2)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _merged(
    data: Any,
    indices: Any,
    shape: tuple[int, ...],
    n_batch: int,
    n_dense: int,
    unique: bool,
    dtype: Any,
) -> Merged:
    """Return values with entries of one place added up, and zeros for those of no place.

    Values, or indices, that a batch has in common stand for all of it.
    """
    batch, lengths = shape[:n_batch], shape[n_batch : len(shape) - n_dense]
    dense = data.shape[n_batch + 1 :]
    data = jnp.broadcast_to(data, (*batch, *data.shape[n_batch:]))
    indices = jnp.broadcast_to(indices, (*batch, *indices.shape[n_batch:]))
    sizes = jnp.asarray(lengths, jnp.int64)
    indices = indices.astype(jnp.int64)
    indices = jnp.where(indices < 0, indices + sizes, indices)
    inside = jnp.all((indices >= 0) & (indices < sizes), axis=-1)
    if unique or 0 in data.shape:
        mask = inside.reshape(*inside.shape, *(1 for _ in dense))
        return Merged(jnp.where(mask, data, jnp.zeros_like(data)), mask)
    several = math.prod(batch)
    values, counted = jax.vmap(functools.partial(_of_matrix, dtype=dtype))(
        data.reshape(several, *data.shape[n_batch:]),
        indices.reshape(several, *indices.shape[n_batch:]),
        inside.reshape(several, -1),
    )
    return Merged(values.reshape(data.shape), counted.reshape(*inside.shape, *(1 for _ in dense)))


def _of_matrix(data: Any, indices: Any, inside: Any, dtype: Any) -> tuple[Any, Any]:
    """Return the sums of entries of one place, each where the first of them is."""
    count = data.shape[0]
    columns = [~inside, *(indices[:, k] for k in range(indices.shape[1]))]
    order = jnp.lexsort(columns[::-1])
    same = functools.reduce(jnp.logical_and, [c[order][1:] == c[order][:-1] for c in columns])
    first = jnp.concatenate([jnp.ones(1, bool), ~same])
    begun = jax.lax.cummax(jnp.where(first, jnp.arange(count), 0))
    place = jnp.zeros(count, order.dtype).at[order].set(order[begun])
    counted = (place == jnp.arange(count)) & inside
    sums = jax.ops.segment_sum(data.astype(dtype), place, count)
    mask = counted.reshape(count, *(1 for _ in data.shape[1:]))
    return jnp.where(mask, sums, jnp.zeros_like(sums)), counted
