"""Norms along trailing axes on a device: slices that lie one after the other, in few launches.

A backend may sum and multiply the slices of all leaves at once. What is decided in between is
decided for all of them together: see `rows`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from agclip._backends import batch
from agclip._clipping.plan import StaticArgs
from agclip._clipping.rows import Apart, Row, Slices
from agclip._numerics.norms import root_of_sum
from agclip._numerics.ranges import Norm
from agclip._typing import Array

_WIDE = "float64"


def _shapes(call: StaticArgs, arrays: Sequence[Array]) -> list[tuple[int, ...]] | None:
    """Return the shape of each leaf's norms, the axes that are summed over as ones.

    None if they have to be looked at one by one: if an axis comes after one that is summed over, or
    no kernel is meant for such leaves.
    """
    axes = call.plan.axes
    if axes is None or call.tested or not _taken(call, arrays):
        return None
    shapes = []
    for leaf, along in zip(arrays, axes, strict=True):
        shape = leaf.shape
        kept = 0 if along is None else len(shape) - len(along)
        if along is not None and (along != tuple(range(kept, len(shape))) or not along):
            return None
        shapes.append((*shape[:kept], *(1,) * (len(shape) - kept)))
    return shapes


def _taken(call: StaticArgs, arrays: Sequence[Array]) -> bool:
    """Tell whether plain sums of squares, on a device, are what norms are made of."""
    if call.plan.order != 2 or call.plan.reproducible or not isinstance(arrays, batch.LeafBatch):
        return False
    return arrays.access == "sync" and batch.all_real(arrays) and batch.narrow(arrays, _WIDE)


def norms(call: StaticArgs, arrays: Sequence[Array]) -> list[Norm] | None:
    """Return the norm of each slice of each leaf; None where the general program has to."""
    shapes = _shapes(call, arrays)
    if shapes is None:
        return None
    backend, xp, counts = call.backend, call.backend.xp, list(map(math.prod, shapes))
    sums = backend.sum_slices(xp, arrays, counts)
    if sums is None:
        return None
    row = Row(xp, shapes, list(itertools.accumulate(counts)))
    whole = Norm(root_of_sum(xp, sums), 1.0, sums < math.inf)
    columns = zip(row.part(whole.root), row.part(whole.finite), strict=True)
    return Slices([Norm(root, 1.0, finite) for root, finite in columns], whole)


def of_examples(call: StaticArgs, arrays: Sequence[Array]) -> Norm | None:
    """Return the norms of the examples, a vector, where the leading axis is the example."""
    if not _taken(call, arrays):
        return None
    xp, number = call.backend.xp, arrays[0].shape[0]
    sums = call.backend.sum_slices(xp, arrays, [number] * len(arrays))
    if sums is None:
        return None
    sums = xp.sum(xp.reshape(sums, (-1, number)), axis=0)
    return Norm(root_of_sum(xp, sums), 1.0, sums < math.inf)


def multiplied(
    call: StaticArgs, arrays: Sequence[Array], made: Apart, *, inplace: bool
) -> Sequence[Array] | None:
    """Multiply leaves by what has been decided on their slices; None likewise.

    In place no two leaves may be the same memory. A factor of one changes no finite number, but may
    change the bits of a NaN that is written anew.
    """
    policies = ("propagate", "skip") if inplace else ("propagate",)
    if call.plan.nonfinite not in policies:
        return None
    shapes = _shapes(call, arrays)
    if shapes is None or not call.backend.keeps_bits(arrays[0]):
        return None
    backend, factor, counts = call.backend, made.whole.factor, list(map(math.prod, shapes))
    return backend.scale_slices(backend.xp, arrays, counts, factor, inplace)
