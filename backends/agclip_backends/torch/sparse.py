"""PyTorch's sparse tensors: what they store, and their entries of one place added up."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from agclip.adapters import Merged, Sparse

_BY_ROW = (torch.sparse_csr, torch.sparse_bsr)
_COMPRESSED = (*_BY_ROW, torch.sparse_csc, torch.sparse_bsc)
Numbers = Callable[[], torch.Tensor]
"""Returns the number of the place of each entry, along the first axis of the values."""


def stored(objects: Sequence[Any], _: set[type]) -> list[Sparse | None] | None:
    """Return what sparse tensors among the objects store."""
    found = [_stored(x) if isinstance(x, torch.Tensor) else None for x in objects]
    return None if all(part is None for part in found) else found


def _stored(x: torch.Tensor) -> Sparse | None:
    if isinstance(x, FakeTensor):
        return None  # which entries are of one place depends on values
    if x.layout is torch.sparse_coo:
        return _coo(x)
    return _compressed(x) if x.layout in _COMPRESSED else None


def _unwritable(x: torch.Tensor) -> str | None:
    if x.requires_grad and torch.is_grad_enabled():
        return "is sparse and requires grad"
    return None


def _plain(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return values as a tensor that is no view of a sparse one: `view_as_real` of such fails.

    That is so with torch 2.13. Where autograd records, the view is part of what it records.
    """
    return values if x.requires_grad and torch.is_grad_enabled() else values.detach()


def _coo(x: torch.Tensor) -> Sparse:
    # Of others than coalesced ones autograd hands out no values.
    held = x.coalesce() if x.requires_grad and torch.is_grad_enabled() else x
    coalesced = held.is_coalesced()
    indices = held._indices()
    values = _plain(x, held.values() if coalesced else held._values())

    def rebuild(new: torch.Tensor) -> torch.Tensor:
        return torch.sparse_coo_tensor(
            indices, new, x.shape, is_coalesced=coalesced, check_invariants=False
        )

    def numbers() -> torch.Tensor:
        return _number(indices, x.shape[: x.sparse_dim()])

    merged = functools.partial(_merged, values, 1, None if coalesced else numbers)
    return Sparse(x, values, _size(x), merged, rebuild, unwritable=_unwritable(x))


def _compressed(x: torch.Tensor) -> Sparse:
    by_row = x.layout in _BY_ROW
    compressed = x.crow_indices() if by_row else x.ccol_indices()
    plain = x.col_indices() if by_row else x.row_indices()
    values = _plain(x, x.values())

    def rebuild(new: torch.Tensor) -> torch.Tensor:
        return torch.sparse_compressed_tensor(
            compressed, plain, new, x.shape, layout=x.layout, check_invariants=False
        )

    def numbers() -> torch.Tensor:
        counts = compressed.to(torch.int64).diff(dim=-1).reshape(-1)
        # Rows of one matrix of the batch after those of another: no two have one number.
        row = torch.arange(counts.numel(), device=values.device).repeat_interleave(counts)
        width = x.shape[x.ndim - x.dense_dim() - (1 if by_row else 2)]
        return row * width + plain.reshape(-1)

    merged = functools.partial(_merged, values, plain.ndim, numbers)
    return Sparse(x, values, _size(x), merged, rebuild, unwritable=_unwritable(x))


def _size(x: torch.Tensor) -> float:
    return float(max(math.prod(x.shape), 1))


def _number(indices: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Return the number of each place in the order of rows: torch has no more than 2^63."""
    number = torch.zeros_like(indices[:1].sum(0), dtype=torch.int64)
    for index, length in zip(indices, lengths, strict=True):
        number = number * length + index
    return number


def _merged(
    values: torch.Tensor, batch: int, numbers: Numbers | None, dtype: torch.dtype
) -> Merged:
    """Return values with entries of one place added up.

    Args:
        values: The values.
        batch: How many axes of theirs run over entries.
        numbers: Where they belong; None if no two are of one place.
        dtype: The dtype of the sums.
    """
    if numbers is None or values.numel() == 0:
        return Merged(values, None)
    with torch.no_grad():
        number = numbers()
        if bool((number[1:] > number[:-1]).all()):
            return Merged(values, None)
        places, place = torch.unique(number, return_inverse=True)
        if len(places) == len(number):
            return Merged(values, None)
        # The first entry of each place keeps the sum.
        position = torch.arange(len(number), device=number.device)
        first = torch.full_like(places, len(number))
        first = first.scatter_reduce(0, place, position, "amin")
        place = first[place]
        counted = place == position
    rows = values.reshape(len(number), *values.shape[batch:]).to(dtype)
    new = torch.zeros_like(rows).index_add(0, place, rows)
    mask = counted.reshape(*values.shape[:batch], *(1 for _ in values.shape[batch:]))
    return Merged(new.reshape(values.shape), mask)
