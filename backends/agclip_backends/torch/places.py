"""Where tensors lie, and whether two of them share memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from agclip_backends import _memory
from agclip_backends._memory import Memory


def memory(leaves: Sequence[torch.Tensor]) -> Sequence[Memory | None] | None:
    """Return where tensors lie; None for all if no two share memory."""
    try:
        addresses = list(map(torch.Tensor.data_ptr, leaves))
    except RuntimeError:
        # Of other layouts, and of subclasses without memory of their own.
        return [_memory_of(leaf) for leaf in leaves]
    whole = all(map(torch.Tensor.is_contiguous, leaves))
    if whole and apart(addresses, map(torch.Tensor.numel, leaves), {leaf.dtype for leaf in leaves}):
        return None
    return [_memory_of(leaf) for leaf in leaves]


def apart(addresses: Sequence[int], counts: Iterable[int], dtypes: set[torch.dtype]) -> bool:
    """Tell whether it is plain that no two dense tensors share memory."""
    itemsize = max(dtype.itemsize for dtype in dtypes)
    ends = [address + n * itemsize for address, n in zip(addresses, counts, strict=True)]
    return len(ends) == 1 or _memory.apart(addresses, ends)


def _memory_of(x: torch.Tensor) -> Memory | None:
    try:
        address = x.data_ptr()
    except RuntimeError:
        return None
    size = x.itemsize
    return Memory(address, [stride * size for stride in x.stride()], size) if address else None
