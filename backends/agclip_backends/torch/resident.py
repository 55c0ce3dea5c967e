"""Tensors on one device at a glance: what the fused kernels have to know of a list of them.

Every method of a tensor costs the host some 50 ns a leaf, called by `map`, and 100 in a loop of
Python: each is called once a call, here. What follows from the answers is kept by the leaves'
addresses, which gradients have in common from step to step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch

from agclip.adapters import Kind, LeafBatch, kind_named
from agclip_backends._cuda.described import Described
from agclip_backends._cuda.recent import Recent
from agclip_backends.torch import dlpack

KINDS = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2, torch.float64: 3}
"""What the kernels know of dtypes, and of complex ones by their parts."""
TWICE = {torch.complex64: 2, torch.complex128: 3}

MANY = 32
"""Leaves from which on a call of compiled code for all takes less time than their attributes."""

_CODES = {**KINDS, **TWICE}
_KINDS = {dtype: kind_named(str(dtype).removeprefix("torch.")) for dtype in _CODES}
_dtype, _is_cuda = map(attrgetter, ("dtype", "is_cuda"))
_is_nested, _requires_grad = map(attrgetter, ("is_nested", "requires_grad"))
_version, _get_device = attrgetter("_version"), torch.Tensor.get_device
_data_ptr, _numel = torch.Tensor.data_ptr, torch.Tensor.numel
_is_contiguous = torch.Tensor.is_contiguous
_is_conj, _is_neg = torch.Tensor.is_conj, torch.Tensor.is_neg


class Known(NamedTuple):
    """What follows from the dtypes, sizes and addresses of leaves."""

    dtypes: list[torch.dtype]
    sizes: list[int]
    described: Described
    column: tuple[Kind, ...]
    kinds: frozenset[Kind]
    elements: int
    complex: bool
    phantom: bool
    """Whether a leaf that is not empty has no memory."""


class Resident(LeafBatch):
    """Ordinary dense tensors on one device of CUDA, none of which autograd records."""

    __slots__ = ("known",)

    def __init__(self, leaves: Sequence[torch.Tensor], known: Known, *, inplace: bool) -> None:
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
        self.known = known


_known: Recent[Known] = Recent()
"""What is kept of lists of leaves by their addresses: no tensor, but numbers."""


def survey(
    leaves: Sequence[torch.Tensor],
    inplace: bool,
    here: Callable[[Any], bool] = _is_cuda,
    kernels: Any = None,
) -> Resident | None:
    """Return tensors of one device as a batch; None if one is anything but its memory.

    Args:
        leaves: Tensors, of no class of anybody's making.
        inplace: Whether they are going to be overwritten.
        here: Tells whether a tensor is on a device of CUDA.
        kernels: The compiled kernels of the host, which read many tensors at once; None without.
    """
    read = None if kernels is None or len(leaves) < MANY else _rows(leaves, kernels)
    if read is None:
        return _asked(leaves, inplace, here)
    kept = _read.get(read.addresses)
    if kept is not None and kept.rest == read.rest:
        if _of_autograd(leaves, inplace) or _as_views(leaves, kept.known, inplace):
            return None
        return Resident(leaves, kept.known, inplace=inplace)
    found = _asked(leaves, inplace, here)
    if found is not None and read.says(found.known.described):
        rows = _Rows(read.addresses, read.rest, found.known)
        _read.keep(read.addresses, rows, len(leaves))
    return found


class _Rows(NamedTuple):
    """What compiled code has read of leaves of real dtypes, as bytes: rows of 64 bits a leaf."""

    addresses: bytes
    rest: bytes
    """Counts and kinds."""
    known: Any = None

    def says(self, described: Described) -> bool:
        """Tell whether it is what the tensors themselves have said."""
        rows = np.array(described, np.int64)
        return bool(rows[0].tobytes() == self.addresses and rows[1:].tobytes() == self.rest)


def _rows(leaves: Sequence[torch.Tensor], kernels: Any) -> _Rows | None:
    """Return what compiled code reads of leaves on one device; None if one is of another kind."""
    table, found = dlpack.table_of(
        leaves, kernels, written=False, device=dlpack.device_of(leaves[0])
    )
    if found < 0 or any(kind.family == "complex" for kind in dlpack.kinds_of(found)):
        return None
    return _Rows(table[0, :-1].tobytes(), table[1:3, :-1].tobytes())


_read: Recent[_Rows] = Recent()
"""The same of lists that compiled code reads, by their addresses as bytes."""


def _asked(
    leaves: Sequence[torch.Tensor], inplace: bool, here: Callable[[Any], bool]
) -> Resident | None:
    """Do the same by asking every tensor for everything."""
    if len(set(map(_get_device, leaves))) > 1 or _of_autograd(leaves, inplace):
        return None
    try:
        addresses = tuple(map(_data_ptr, leaves))
        if False in map(_is_contiguous, leaves) and not all(map(dense, leaves)):
            return None
    except RuntimeError:
        # Sparse and other layouts have no such thing as contiguity, or an address (torch 2.13).
        return None
    dtypes, sizes = list(map(_dtype, leaves)), list(map(_numel, leaves))
    known = _known.get(addresses)
    if known is None or known.sizes != sizes or known.dtypes != dtypes:
        known = _learn(leaves, here, addresses, dtypes, sizes)
    if known is None or known.phantom or _as_views(leaves, known, inplace):
        return None
    return Resident(leaves, known, inplace=inplace)


def _of_autograd(leaves: Sequence[torch.Tensor], inplace: bool) -> bool:
    """Tell whether autograd records what is done to a leaf, or forbids it."""
    if torch.is_grad_enabled() and True in map(_requires_grad, leaves):
        return True
    return inplace and not torch.is_inference_mode_enabled() and _made_in_inference_mode(leaves)


def _as_views(leaves: Sequence[torch.Tensor], known: Known, inplace: bool) -> bool:
    """Tell whether a leaf is one of PyTorch's views whose elements are not what memory holds.

    Products in place need no sign.
    """
    if (known.complex or not inplace) and True in map(_is_neg, leaves):
        return True
    return known.complex and True in map(_is_conj, leaves)


def _made_in_inference_mode(leaves: Sequence[torch.Tensor]) -> bool:
    try:
        deque(map(_version, leaves), maxlen=0)  # takes a quarter less than `is_inference`
    except RuntimeError:  # there are no versions of such tensors
        return True
    return False


def _learn(
    leaves: Sequence[torch.Tensor],
    here: Callable[[Any], bool],
    addresses: tuple[int, ...],
    dtypes: list[torch.dtype],
    sizes: list[int],
) -> Known | None:
    # It is not asked again what is here, nor for nested tensors: those that come to lie in the same
    # places are no less dense.
    if not all(map(here, leaves)) or True in map(_is_nested, leaves):
        return None
    if not set(dtypes) <= _CODES.keys():
        return None
    paired, first = not TWICE.keys().isdisjoint(dtypes), dtypes[0]
    if dtypes.count(first) == len(dtypes):
        column, codes = (_KINDS[first],) * len(dtypes), (_CODES[first],) * len(dtypes)
    else:
        column = tuple(map(_KINDS.__getitem__, dtypes))
        codes = tuple(map(_CODES.__getitem__, dtypes))
    counts = sizes
    if paired:
        counts = [n * 2 if dtype in TWICE else n for n, dtype in zip(sizes, dtypes, strict=True)]
    known = Known(
        dtypes,
        sizes,
        Described(addresses, tuple(counts), codes),
        column,
        frozenset(column),
        sum(counts),
        paired,
        0 in addresses and any(n and not at for at, n in zip(addresses, sizes, strict=True)),
    )
    _known.keep(addresses, known, len(sizes))
    return known


def dense(leaf: Any) -> bool:
    """Tell whether elements fill a stretch of memory that begins with the first, in any order."""
    if leaf.layout != torch.strided:
        return False
    expected = 1
    for stride, size in sorted(zip(leaf.stride(), leaf.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected and leaf.numel():
            return False
        expected *= size
    return True
