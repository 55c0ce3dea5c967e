"""Sparse leaves with entries of one place added up: for norms, and for bounds on single elements.

Sums are formed in the accumulation dtype, so that two float16 entries of 60000 count as 120000. For
a norm they stay as they are; to be clipped element by element they become what a dense array would
hold: they are rounded to the dtype of the leaf, in which integers saturate.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

from agclip._backends import batch, kernels, registry
from agclip._backends.dtypes import kind_of
from agclip._backends.sparse import Merged
from agclip._clipping import value_bounds
from agclip._trees.leaves import Leaves, dearest
from agclip._typing import Array, DType


def wide(leaves: Leaves) -> list[Array] | None:
    """Return what norms are taken of; None if that is the leaves themselves."""
    found = _merged(leaves)
    pairs = list(zip(leaves.arrays, found, strict=True))
    if all(one is None or one.values is leaf for leaf, one in pairs):
        return None
    return [leaf if one is None else one.values for leaf, one in pairs]


def _merged(leaves: Leaves) -> list[Merged | None]:
    assert leaves.sparse is not None, "there is something to merge"
    backend = leaves.backend
    with backend.context():
        return [
            None if part is None else backend.at(leaf, part.merged, _wide_dtype(leaves, leaf))
            for leaf, part in zip(leaves.arrays, leaves.sparse, strict=True)
        ]


def _wide_dtype(leaves: Leaves, leaf: Array) -> DType:
    backend, xp, kind = leaves.backend, leaves.backend.xp, kind_of(leaf.dtype)
    if kind.family == "integer":
        return xp.uint64 if kind.name == "uint64" else xp.int64
    dtype = backend.acc_dtype(xp, leaf)
    if kind.family == "real":
        return dtype
    return xp.complex128 if kind_of(dtype).precision == 53 else xp.complex64


def as_dense(leaves: Leaves) -> tuple[Leaves, list[Array | None]]:
    """Return leaves whose arrays hold what dense ones would, and where each of these counts.

    They are of the dtypes of the leaves. Where an element does not count it is zero, and has to
    stay it: None for nowhere.
    """
    if leaves.sparse is None:
        return leaves, [None] * len(leaves.arrays)
    xp, found = leaves.backend.xp, _merged(leaves)
    arrays: list[Array] = []
    with leaves.backend.context():
        for leaf, kind, one in zip(leaves.arrays, leaves.kinds, found, strict=True):
            if one is None or one.values.dtype == leaf.dtype:
                arrays.append(leaf if one is None else one.values)
                continue
            values = one.values
            if kind.family == "integer":
                values = value_bounds.saturated(xp, values, kind_of(values.dtype), kind)
            arrays.append(kernels.cast(xp, values, leaf.dtype))
    access = batch.access(arrays) or dearest(leaves.backend, arrays)
    dense = leaves._replace(arrays=arrays, access=access, sparse=None)
    return dense, [None if one is None else one.counted for one in found]


def require_zeros_within(leaves: Leaves, low: Any, high: Any) -> bool:
    """Tell whether zero is surely between two bounds of a clip of single elements.

    Raises:
        TypeError: If it surely is not, and elements that are not stored are zeros: they would all
            have to be stored. Or if a bound is no single number: it may have a value for each of
            them.
    """
    sure = True
    for name, bound, side in (("clip_value_min", low, 1.0), ("clip_value_max", high, -1.0)):
        value = _number(bound, leaves)
        sure = sure and (bound is None or (value is not None and value * side <= 0))
        for i, part in enumerate(leaves.sparse or ()):
            if part is None or bound is None:
                continue
            if value is None and getattr(bound, "ndim", 0) != 0:
                msg = (
                    f"`{name}` must be a single number for sparse leaves; got an array of shape "
                    f"{tuple(bound.shape)} beside a {type(part.whole).__name__} at "
                    f"{leaves.path(i)}. Convert the leaf first, or pass a number."
                )
                raise TypeError(msg)
            if value is not None and value * side > 0 and part.zeros:
                which = "<= 0" if side > 0 else ">= 0"
                msg = (
                    f"`{name}` must be {which} for sparse leaves, whose other elements are zero; "
                    f"got {value!r} for a {type(part.whole).__name__} at {leaves.path(i)}. Convert "
                    f"it first, or clip it by a norm."
                )
                raise TypeError(msg)
    return sure


def _number(bound: Any, leaves: Leaves) -> Any:
    """Return a bound as a number if it can be read for nothing; None if not."""
    if isinstance(bound, numbers.Real):
        return bound
    bound, owner = registry.resolved(bound)
    if owner is None or owner.refuse(bound) or bound.ndim != 0:
        return None
    if owner.access(bound) not in ("free", "graph"):
        return None
    with leaves.backend.context():
        return float(bound)


def counted_only(leaves: Leaves, new: Sequence[Array], counted: Sequence[Array | None]) -> Any:
    """Return new elements, zeros where they do not count."""
    xp = leaves.backend.xp
    with leaves.backend.context():
        return [
            y if mask is None else xp.where(mask, y, xp.zeros_like(y))
            for y, mask in zip(new, counted, strict=True)
        ]
