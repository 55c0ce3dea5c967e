"""PyTorch: elements of tensors in host memory between two numbers, without compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from agclip import adapters
from agclip_backends.torch import tensors
from agclip_backends.torch.fused import seam

_SMALLEST = 5e-324


def clip(
    namespace: Any,
    leaves: Sequence[torch.Tensor],
    lows: Sequence[float],
    highs: Sequence[float],
    inplace: bool,
) -> Sequence[torch.Tensor] | None:
    """Return min(max(x, low), high) of each leaf; None where that is not what PyTorch computes.

    At a bound of zero processors differ in the sign of a zero, and one that flushes subnormal
    numbers would flush those of the leaves.
    """
    if not tensors.hosted(leaves):
        return seam.clip(namespace, leaves, lows, highs, inplace)
    if 0.0 in lows or 0.0 in highs or _SMALLEST * 1.0 == 0.0:
        return None
    # PyTorch's lists in place refuse views that negate (2.13).
    if inplace and True in map(torch.Tensor.is_neg, leaves):
        return None
    counts = adapters.counts(leaves)
    if max(counts) <= tensors.BLOCK:
        return _small(list(leaves), lows, highs, inplace=inplace)
    new = list(leaves)
    small = [i for i, count in enumerate(counts) if count <= tensors.BLOCK]
    if small:
        below, above = ([ends[i] for i in small] for ends in (lows, highs))
        found = _small([new[i] for i in small], below, above, inplace=inplace)
        for i, one in zip(small, found, strict=True):
            new[i] = one
    for i in set(range(len(new))).difference(small):
        low, high = lows[i], highs[i]
        new[i] = torch.clamp_(new[i], low, high) if inplace else torch.clamp(new[i], low, high)
    return new


def _small(
    leaves: list[torch.Tensor], lows: Sequence[float], highs: Sequence[float], *, inplace: bool
) -> list[torch.Tensor]:
    """Return the same of leaves that stay in cache: two calls take a third of the time of many."""
    below, above = _alike(lows), _alike(highs)
    if inplace:
        torch._foreach_clamp_min_(leaves, below)
    else:
        leaves = list(torch._foreach_clamp_min(leaves, below))
    torch._foreach_clamp_max_(leaves, above)
    return leaves


def _alike(ends: Sequence[float]) -> Any:
    """Return one number where all are the same: a list would be converted one by one."""
    return ends[0] if ends.count(ends[0]) == len(ends) else list(ends)
