"""PyTorch: tensors multiplied in place one by one, in operations that autograd records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import array_api_compat.torch as xp
import torch

from agclip import adapters
from agclip.adapters import Factor, kind_of
from agclip_backends.torch.complex import in_parts
from agclip_backends.torch.tensors import BLOCK, hosted

_PLAIN = ("float32", "float64")
_LARGE = 1 << 20
"""Elements from which on a leaf is worth a call of a compiled kernel."""


def each_(leaves: Sequence[torch.Tensor], factor: Factor) -> None:
    """Multiply each leaf by the factor in place.

    By `mul_`, not by writing a product: autograd keeps what it needs of a tensor that `mul_` is
    going to overwrite, and has the product's operands lost when they are written over.
    """
    for leaf, here in in_parts(leaves, factor):
        kind = kind_of(leaf.dtype)
        if kind.half:
            for piece in adapters.pieces(leaf, BLOCK) if whole(factor) else (leaf,):
                piece.copy_(adapters.scale(xp, [piece], factor)[0])
            continue
        real = torch.float64 if kind.precision == 53 else torch.float32
        for part in here.wide if kind.precision == 53 else here.narrow:
            if part is not None:
                # A float64 factor with axes of its own would have the product formed in float64.
                leaf.mul_(part if isinstance(part, float) else part.to(real))


def of_each(
    _: Any, leaves: Sequence[torch.Tensor], factors: Sequence[Factor], inplace: bool
) -> Sequence[torch.Tensor] | None:
    """Multiply leaves by factors of their own in one call; None where one call will not do."""
    if not hosted(leaves) or max(adapters.counts(leaves)) >= _LARGE:
        return None
    if not all(kind.name in _PLAIN for kind in adapters.kinds(leaves)):
        return None
    numbers: list[float] = []
    for leaf, factor in zip(leaves, factors, strict=True):
        pre, rest = factor.wide if leaf.dtype is torch.float64 else factor.narrow
        if pre is not None or not isinstance(rest, float):
            return None
        numbers.append(rest)
    if not inplace:
        new: Sequence[torch.Tensor] = torch._foreach_mul(list(leaves), numbers)
        return new
    torch._foreach_mul_(list(leaves), numbers)
    return leaves


def whole(factor: Factor) -> bool:
    """Tell whether one number goes for a leaf: with axes of its own a factor fits no piece."""
    pre, rest = factor.narrow
    return isinstance(rest, float) and (pre is None or isinstance(pre, float))
