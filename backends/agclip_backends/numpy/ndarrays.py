"""A list of NumPy arrays at a glance: whether all are plain memory, and where it lies."""

from __future__ import annotations

import functools
import itertools
import operator
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from agclip.adapters import Kind, LeafBatch, kind_named, kind_of
from agclip_backends import _memory
from agclip_backends._host import tables
from agclip_backends._host.loader import loader
from agclip_backends._memory import Memory

_base, _dtype, _size = map(operator.attrgetter, ("base", "dtype", "size"))
_writeable, _contiguous = map(operator.attrgetter, ("flags.writeable", "flags.forc"))
_TYPES = {np.ndarray}
_KINDS = ("float16", "float32", "float64", "complex64", "complex128", "bfloat16")


@functools.cache
def _formats(bfloat16: bool) -> Any:
    """Return triples: a dtype's address, its code, and the real numbers in an element."""
    dtypes: list[Any] = list(map(np.dtype, _KINDS[:-1]))
    if bfloat16:
        import ml_dtypes

        dtypes.append(np.dtype(ml_dtypes.bfloat16))
    rows = []
    for dtype in dtypes:
        name = dtype.name
        rows.append((id(dtype), tables.CODES[name], 2 if dtype.kind == "c" else 1))
    return np.array(rows, np.int64)


@functools.cache
def _kinds(found: int) -> frozenset[Kind]:
    formats = _formats(sys.modules.get("ml_dtypes") is not None)
    names = [name for i, name in enumerate(_KINDS[: len(formats)]) if found >> i & 1]
    return frozenset(map(kind_named, names))


@functools.lru_cache(maxsize=256)
def _native(dtype: Any) -> Kind | None:
    """Return the kind of a dtype in the byte order of the machine; None in another."""
    return kind_of(dtype) if dtype.isnative else None


def _column(leaves: Sequence[Any]) -> list[Any]:
    """Return the kind of each leaf; None for one in another byte order."""
    dtypes = list(map(_dtype, leaves))
    if dtypes.count(dtypes[0]) == len(dtypes):
        return [_native(dtypes[0])] * len(dtypes)
    return list(map(_native, dtypes))


def _table(leaves: Sequence[Any], kernels: Any, *, written: bool) -> tuple[Any, int]:
    table = np.empty((4, len(leaves) + 1), np.int64)
    listed = leaves if type(leaves) is list else list(leaves)
    formats = _formats(sys.modules.get("ml_dtypes") is not None)
    found = kernels.read_arrays(id(listed), object.__basicsize__, formats, written, table)
    return table, found


@functools.cache
def _reads_arrays(kernels: Any) -> bool:
    """Tell whether this build of NumPy lays out its arrays as the kernels expect."""
    sample = np.ones((2, 3), np.float32)
    table, found = _table([sample], kernels, written=True)
    wanted = [sample.ctypes.data, sample.size, tables.CODES["float32"]]
    return found == 2 and table[: kernels.FIRST, 0].tolist() == wanted


def survey(leaves: Sequence[Any], types: set[type], inplace: bool) -> LeafBatch | None:
    """Return ordinary arrays as a batch, with their addresses if there are compiled kernels."""
    if types != _TYPES:
        return None
    kernels = loader.kernels()
    if kernels is not None and _reads_arrays(kernels):
        table, found = _table(leaves, kernels, written=inplace)
        if found > 0:
            kinds = _kinds(found)
            column = [*kinds] * len(leaves) if len(kinds) == 1 else _column(leaves)
            return tables.Leaves(
                leaves, column, table, kernels, _LIBRARY, kinds=kinds, distinct=inplace
            )
    if inplace and not (all(map(_writeable, leaves)) and all(map(_contiguous, leaves))):
        return None
    column = _column(leaves)
    if None in column:
        return None
    batch = LeafBatch(leaves, column, tables.counts(list(map(_size, leaves)), column))
    loader.went_without(len(leaves), batch.elements)
    batch.distinct = inplace and memory(leaves) is None
    return batch


def memory(leaves: Sequence[Any]) -> Sequence[Memory] | None:
    """Return where arrays lie; None for all if no two share memory."""
    whole = all(map(operator.is_, map(_base, leaves), itertools.repeat(None)))
    if len(leaves) == 1 or (whole and len(set(map(id, leaves))) == len(leaves)):
        return None
    addresses = [x.__array_interface__["data"][0] for x in leaves]
    ends = [address + x.nbytes for address, x in zip(addresses, leaves, strict=True)]
    if all(map(_contiguous, leaves)) and _memory.apart(addresses, ends):
        return None
    pairs = zip(addresses, leaves, strict=True)
    return [Memory(address, x.strides, x.itemsize) for address, x in pairs]


def _addresses(leaves: Sequence[Any], kernels: Any) -> Any:
    table, _ = _table(leaves, kernels, written=True)
    return table[kernels.ADDRESS, :-1]


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_LIBRARY = tables.Library(
    new=np.empty_like,
    addresses=_addresses,
    threads=_processors,
    written=lambda _: None,
)
