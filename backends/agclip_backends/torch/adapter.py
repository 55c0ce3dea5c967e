"""PyTorch: blocks on the CPU; tensors throughout on devices, under autograd and when compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from agclip import adapters
from agclip.adapters import Backend, Factor, exact_sum
from agclip_backends._host import pages
from agclip_backends._host.tables import accelerated
from agclip_backends._probe import kept
from agclip_backends.torch import (
    clamp,
    complex,
    cuda,
    dtensors,
    places,
    scale,
    sparse,
    sums,
    tensors,
)
from agclip_backends.torch.complex import all_reals
from agclip_backends.torch.fused import seam
from agclip_backends.torch.misplaced import misplaced
from agclip_backends.torch.scale import whole
from agclip_backends.torch.sums import PIECE
from agclip_backends.torch.tensors import BLOCK, access, on_devices

_DOUBLES = (torch.float64, torch.complex128)


def _scale(
    namespace: Any, leaves: Sequence[torch.Tensor], factor: Factor
) -> Sequence[torch.Tensor]:
    surveyed = tensors.hosted(leaves)
    if surveyed and whole(factor):
        return _scale_surveyed(namespace, leaves, factor)
    if any(map(torch.is_complex, leaves)):
        return complex.scale(leaves, factor, functools.partial(_scale, namespace))
    if not surveyed and on_devices(leaves):
        return cuda.scale(namespace, leaves, factor)
    return adapters.scale(namespace, leaves, factor)


def _scale_surveyed(
    namespace: Any, leaves: Sequence[torch.Tensor], factor: Factor
) -> Sequence[torch.Tensor]:
    new = list(map(torch.empty_like, leaves))
    large = (x for x in new if x.nbytes >= pages.LEAST)
    pages.ask_for_large_ones((x.data_ptr(), x.nbytes) for x in large)
    real = adapters.all_real(leaves)
    targets = new if real else all_reals(new)
    for leaf, target in zip(leaves if real else all_reals(leaves), targets, strict=True):
        if leaf.itemsize > 2:
            pre, rest = factor.wide if leaf.dtype in _DOUBLES else factor.narrow
            source = leaf if pre is None else torch.mul(leaf, pre, out=target)
            torch.mul(source, rest, out=target)
            continue
        # Half types are widened: in pieces, so that it happens in cache.
        pairs = zip(adapters.pieces(leaf, BLOCK), adapters.pieces(target, BLOCK), strict=True)
        for piece, out in pairs:
            out.copy_(adapters.scale(namespace, [piece], factor)[0])
    return new


def _scale_in_place(_: Any, leaves: Sequence[torch.Tensor], factor: Factor) -> None:
    if not tensors.hosted(leaves) and on_devices(leaves):
        cuda.scale_(xp, leaves, factor)
        return
    one_step = factor.narrow[0] is factor.wide[0] is None
    if tensors.hosted(leaves) and len(leaves) > 1 and one_step:
        for dtype in {leaf.dtype for leaf in leaves} - {torch.float16, torch.bfloat16}:
            alike = list(all_reals([leaf for leaf in leaves if leaf.dtype == dtype]))
            double = dtype in _DOUBLES
            rest = factor.wide[1] if double else factor.narrow[1]
            # By a number this takes three times as long (torch 2.13 on the CPU).
            scalar = torch.tensor(rest, dtype=dtype.to_real(), device=alike[0].device)
            torch._foreach_mul_(alike, scalar)
        leaves = [leaf for leaf in leaves if leaf.dtype in (torch.float16, torch.bfloat16)]
    scale.each_(leaves, factor)


def _sqrt(_: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the correctly rounded square root.

    torch's own is off by one unit in the last place for 0.7 % of float64 values (torch 2.13 on the
    CPU, https://github.com/pytorch/pytorch/issues/31250). One Newton step from the exact remainder
    x - r², found by splitting r into halves of 26 bits (Dekker, 1971), mends that.
    """
    root = torch.sqrt(x)
    r = root.detach()
    shifted = r * 134217729.0
    high = shifted - (shifted - r)
    low = r - high
    remainder = ((x.detach() - high * high) - 2.0 * high * low) - low * low
    positive = r > 0
    # Adding the difference keeps the derivative of the root; the sum is exact.
    return root + torch.where(positive, (r + remainder / (2.0 * r)) - r, 0.0)


_OF_NUMPY: dict[torch.dtype, Any] = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.int32: np.int32,
    torch.bool: np.bool_,
}


_from_numpy, _array = torch.from_numpy, np.array  # a rule makes nine scalars in a step


def _scalar_like(_: Any, value: float, dtype: torch.dtype, x: torch.Tensor) -> torch.Tensor:
    known = _OF_NUMPY.get(dtype)
    if known is None:
        return torch.full((), value, dtype=dtype, device=x.device)
    # On the host, where this is called: in a third of the time (torch 2.13).
    return _from_numpy(_array(value, known))


def _branch(
    namespace: Any,
    predicate: torch.Tensor,
    if_true: Callable[[], Sequence[torch.Tensor]],
    if_false: Callable[[], Sequence[torch.Tensor]],
) -> Sequence[torch.Tensor]:
    if access(predicate) == "free":
        return if_true() if predicate.item() else if_false()
    return adapters.select(namespace, predicate, if_true, if_false)


def _refuse(x: Any) -> str | None:
    if not isinstance(x, torch.Tensor):
        return "is no torch.Tensor"
    if x.layout is not torch.strided:
        fake = "is a FakeTensor and " if isinstance(x, FakeTensor) else ""
        return f"{fake}has the layout {x.layout}"
    if x.is_nested:
        return "is nested"
    if not torch.compiler.is_compiling() and tensors.dispatches(x):
        return tensors.unserved(x)
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return f"has the dtype {x.dtype}, which torch cannot compare"
    return "is quantised" if x.is_quantized else None


def _unwritable(x: torch.Tensor) -> str | None:
    if x.requires_grad and torch.is_grad_enabled():
        if x.is_leaf:
            return "is a leaf that requires grad"
        if x._base is not None:
            return "is a view that autograd keeps track of"
    # Compiled code cannot ask (torch 2.13), and refuses such a tensor by itself.
    if not torch.compiler.is_compiling() and x.is_inference():
        return None if torch.is_inference_mode_enabled() else "was made in inference mode"
    if not torch.compiler.is_compiling() and x._is_zerotensor():
        return "is one of PyTorch's zeros without memory"
    if adapters.overlaps_itself(x.shape, x.stride(), 1):
        return "holds several elements in the same memory"
    return None


def _named_device(_: Any, name: str) -> torch.device | None:
    try:
        return torch.empty(0, device=name).device
    except (AssertionError, RuntimeError):
        return None


def _acc_dtype(_: Any, x: torch.Tensor) -> torch.dtype:
    return torch.float32 if x.is_mps else torch.float64


@kept
def _usable() -> str | None:
    if torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
        return None  # what traces it works, and no number can be read meanwhile
    try:
        if torch.ones(2, device="cpu").sum().item() != 2:
            return "the sum of two ones is not two"
    except RuntimeError as error:
        return str(error)
    return None


_plain = Backend(
    name="torch",
    xp=xp,
    sum_squares=sums.sum_squares,
    total=sums.total,
    exact_sum=functools.partial(exact_sum, size=BLOCK),
    clip=clamp.clip,
    fused=seam.fused,
    scale=_scale,
    abs_max=sums.abs_max,
    power_sums=sums.power_sums,
    survey=tensors.survey,
    scale_=_scale_in_place,
    scale_each=scale.of_each,
    sum_slices=cuda.sum_slices,
    scale_slices=cuda.scale_slices,
    sqrt=_sqrt,
    scalar_like=_scalar_like,
    branch=_branch,
    access=access,
    replays=torch.compiler.is_dynamo_compiling,
    # Metal flushes subnormal numbers to zero; CUDA does so only where a kernel asks for it.
    keeps_bits=lambda x: x.is_cuda,
    sparse=sparse.stored,
    refuse=_refuse,
    misplaced=misplaced,
    unwritable=_unwritable,
    memory=places.memory,
    parts=dtensors.parts,
    usable=_usable,
    device=lambda x: x.device,
    named_device=_named_device,
    acc_dtype=_acc_dtype,
    # DLPack (torch 2.13) refuses the one bit and loses the other.
    export=lambda x: x.resolve_conj().resolve_neg(),
    block=BLOCK,
    chain=PIECE,
)
backend = accelerated(_plain)
