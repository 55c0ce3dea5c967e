"""CuPy's arrays on one device at a glance: what the fused kernels have to know of a list of them.

As for PyTorch's tensors, each attribute of an array is read once a call, by `map`, and what follows
from them is kept by the arrays' addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import cupy
import numpy as np

from agclip.adapters import Kind, LeafBatch, kind_of
from agclip_backends._cuda.described import Described
from agclip_backends._cuda.recent import Recent
from agclip_backends._cuda.source import KINDS as _NAMES

KINDS = {np.dtype(name): kind for name, kind in _NAMES.items() if name != "bfloat16"}
TWICE = (np.dtype("complex64"), np.dtype("complex128"))

_data, _dtype, _size = map(attrgetter, ("data", "dtype", "size"))
_ptr, _device_id = map(attrgetter, ("ptr", "device_id"))
_c_contiguous, _f_contiguous = map(attrgetter, ("_c_contiguous", "_f_contiguous"))


class Known(NamedTuple):
    """What follows from the dtypes, sizes and addresses of arrays."""

    dtypes: list[Any]
    sizes: list[int]
    described: Described
    column: list[Kind]
    kinds: frozenset[Kind]
    elements: int


class Surveyed(LeafBatch):
    """Dense arrays on one device, with what the kernels have to know of them: looked at once."""

    __slots__ = ("described",)

    def __init__(self, leaves: Sequence[Any], known: Known, *, inplace: bool) -> None:
        """Note what is known of leaves."""
        described = known.described
        LeafBatch.__init__(
            self,
            leaves,
            known.column,
            described.counts,
            kinds=known.kinds,
            elements=known.elements,
            access="sync",
            distinct=inplace and described.apart,
        )
        self.described = described


_known: Recent[Known] = Recent()
"""What is kept of lists of arrays by their addresses: no array, but numbers."""


def survey(leaves: Sequence[Any], types: set[type], inplace: bool) -> LeafBatch | None:
    """Return dense arrays on one device as a batch: what each would be asked for is asked once."""
    if types != {cupy.ndarray}:
        return None
    pointers = list(map(_data, leaves))
    if len(set(map(_device_id, pointers))) > 1:
        return None
    known = _known_of(leaves, pointers)
    return None if known is None else Surveyed(leaves, known, inplace=inplace)


def described(leaves: Sequence[Any]) -> Described | None:
    """Describe arrays; None unless each is dense and of a kind that the kernels know."""
    if type(leaves) is Surveyed:
        return leaves.described
    known = _known_of(leaves, map(_data, leaves))
    return None if known is None else known.described


def _known_of(leaves: Sequence[Any], pointers: Any) -> Known | None:
    if False in map(_c_contiguous, leaves):
        either = zip(map(_c_contiguous, leaves), map(_f_contiguous, leaves), strict=True)
        if not all(map(any, either)):
            return None
    addresses = tuple(map(_ptr, pointers))
    dtypes, sizes = list(map(_dtype, leaves)), list(map(_size, leaves))
    known = _known.get(addresses)
    if known is None or (known.sizes, known.dtypes) != (sizes, dtypes):
        known = _learn(addresses, dtypes, sizes)
    return known


def _learn(addresses: tuple[int, ...], dtypes: list[Any], sizes: list[int]) -> Known | None:
    codes, kinds = {}, {}
    for dtype in {*dtypes}:
        # CuPy 14 knows bfloat16 if ml_dtypes is installed.
        code = KINDS.get(dtype, _NAMES.get(dtype.name))
        if code is None:
            return None
        codes[dtype], kinds[dtype] = code, kind_of(dtype)
    counts = sizes
    if not codes.keys().isdisjoint(TWICE):
        counts = [n * 2 if dtype in TWICE else n for n, dtype in zip(sizes, dtypes, strict=True)]
    columns = addresses, tuple(counts), tuple(map(codes.__getitem__, dtypes))
    column = list(map(kinds.__getitem__, dtypes))
    known = Known(dtypes, sizes, Described(*columns), column, frozenset(column), sum(counts))
    _known.keep(addresses, known, len(sizes))
    return known
