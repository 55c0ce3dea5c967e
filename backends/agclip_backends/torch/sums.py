"""PyTorch: the sums behind norms, in blocks on the CPU; tensors throughout under autograd."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import torch

from agclip import adapters
from agclip.adapters import LeafBatch, kind_named
from agclip_backends._host import array_sums
from agclip_backends.torch import cuda
from agclip_backends.torch.tensors import BLOCK, access, hosted, on_devices

PIECE = 3 << 16
"""Elements that are widened at a time, by all threads: 1.5 MiB of float64, which stay in cache.

Their squares are added in one dot product: several smaller ones wait for all threads each time.
"""
_BFLOAT16 = kind_named("bfloat16")
_FEW = 1
"""Threads up to which NumPy is faster."""
_SHORT = 1 << 16
"""Elements up to which it is in any case: PyTorch's threads share more than 32,768."""
_TINY = 1 << 10
"""Elements up to which it costs more to make an array of NumPy's of a tensor than to copy it."""


def abs_max(namespace: Any, leaves: Sequence[torch.Tensor], acc_dtype: Any) -> Sequence[Any]:
    """Return max |x| of each leaf, NaN if an element is."""
    if not hosted(leaves):
        return adapters.abs_max(namespace, leaves, acc_dtype)
    return [
        torch.stack(
            [adapters.abs_max(xp, [piece], acc_dtype)[0] for piece in adapters.pieces(leaf, BLOCK)]
        ).max()
        for leaf in leaves
    ]


def sum_squares(
    namespace: Any, leaves: Sequence[torch.Tensor], acc_dtype: Any, scale: Any
) -> Sequence[Any]:
    """Return Σ (scale·|x|)² of each leaf."""
    if not hosted(leaves):
        if on_devices(leaves):
            return cuda.sum_squares(namespace, leaves, acc_dtype, scale)
        if not isinstance(scale, float) or any(access(leaf) != "free" for leaf in leaves):
            double = any(leaf.dtype in (torch.float64, torch.complex128) for leaf in leaves)
            if double and all(access(leaf) == "graph" for leaf in leaves):
                return [_recorded(leaf, scale) for leaf in leaves]
            return adapters.sum_squares(namespace, leaves, acc_dtype, scale)
    sizes = adapters.counts(leaves)
    single = functools.partial(_of_leaf, closely=adapters.double(leaves), kept=[])
    if scale != 1.0 or not adapters.all_real(leaves):
        return [single(leaf, scale) for leaf in leaves]
    large = adapters.elements(leaves) > _TINY * len(leaves)
    shared = isinstance(leaves, LeafBatch) and hosted(leaves) and _BFLOAT16 not in leaves.kinds
    joined = _joined_by_numpy if shared and large else _joined
    return array_sums.of_leaves(leaves, sizes, joined, single)


def _joined_by_numpy(leaves: Sequence[torch.Tensor]) -> Any:
    plain = [leaf.detach() if leaf.requires_grad else leaf for leaf in leaves]
    return array_sums.joined(list(map(torch.Tensor.numpy, plain)))


def _joined(leaves: Sequence[torch.Tensor]) -> Any:
    with torch.no_grad():
        flat = [leaf if leaf.ndim == 1 else leaf.reshape(-1) for leaf in leaves]
        try:
            joined = torch.cat(flat)
        except RuntimeError:  # float8 and another dtype have none in common (torch 2.13)
            joined = torch.cat([leaf.to(torch.float64) for leaf in flat])
        return joined.to(torch.float64).numpy()


def _recorded(leaf: torch.Tensor, scale: Any) -> torch.Tensor:
    """Return Σ (scale·|x|)² as a tensor: torch's own sum of 10⁷ float64 elements loses more."""
    parts = (leaf.real, leaf.imag) if leaf.is_complex() else (leaf,)
    ys = [adapters.scaled(part.to(torch.float64), scale) for part in parts]
    total: torch.Tensor = adapters.total(xp, [adapters.accurate_sum(xp, y * y) for y in ys])
    return total


def power_sums(
    namespace: Any, leaves: Sequence[torch.Tensor], acc_dtype: Any, p: float, scale: Any, unit: Any
) -> Sequence[Any]:
    """Return Σ (scale·|x|/unit)^p of each leaf."""
    if not hosted(leaves) and any(access(leaf) != "free" for leaf in leaves):
        return adapters.power_sums(namespace, leaves, acc_dtype, p, scale, unit)
    with torch.no_grad():
        return adapters.power_sums_in_pieces(namespace, leaves, acc_dtype, p, scale, unit, BLOCK)


def _of_leaf(leaf: torch.Tensor, scale: float = 1.0, *, closely: bool, kept: list[Any]) -> float:
    """Return Σ (scale·|x|)²: see `array_sums.of_leaf`."""
    leaf = leaf.detach().resolve_conj().resolve_neg()
    few = leaf.numel() < _SHORT or torch.get_num_threads() <= _FEW
    if leaf.itemsize > 2 and few:
        with np.errstate(all="ignore"):
            return array_sums.of_leaf(leaf.numpy(), scale, closely=closely, kept=kept)
    if leaf.is_complex():
        leaf = torch.view_as_real(leaf)
    whole = leaf.is_contiguous()
    pieces = torch.split(leaf.view(-1), PIECE) if whole else adapters.pieces(leaf, PIECE)
    buffer = torch.from_numpy(array_sums.widened(kept))
    sums: list[float] = []
    for piece in pieces:
        y = buffer[: piece.numel()]
        (y if whole else y.view(piece.shape)).copy_(piece)
        if scale != 1.0:
            y.mul_(scale)
        # Squares of float32 are exact in float64, and for a float32 norm any order of summation
        # will do; for a float64 one torch's cascade loses less than a running sum.
        sums.append((y.mul_(y).sum() if closely else torch.dot(y, y)).item())
    return adapters.float_total(sums)


def total(namespace: Any, values: Sequence[torch.Tensor]) -> Any:
    """Return the sum of 0-d tensors that are on one device."""
    return (cuda if on_devices(values) else adapters).total(namespace, values)
