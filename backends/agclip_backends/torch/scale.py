"""PyTorch: tensors multiplied in place one by one, in operations that autograd records."""

from __future__ import annotations

from collections.abc import Sequence

import array_api_compat.torch as xp
import torch

from agclip import adapters
from agclip.adapters import Factor, kind_of
from agclip_backends.torch.complex import in_parts
from agclip_backends.torch.tensors import BLOCK


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


def whole(factor: Factor) -> bool:
    """Tell whether one number goes for a leaf: with axes of its own a factor fits no piece."""
    pre, rest = factor.narrow
    return isinstance(rest, float) and (pre is None or isinstance(pre, float))
