"""PyTorch: blocks on the CPU; tensors throughout on devices, under autograd and when compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import torch

from agclip import Backend, _floats, _kernels, _known, _sums
from agclip._dtypes import kind_of
from agclip._known import Known
from agclip._typing import Access
from agclip_backends import _array_sums, _torch_cuda, _torch_tensors
from agclip_backends._host import accelerated

PIECE = 3 << 16
"""Entries that are widened at a time, by all threads: 1.5 MiB of float64, which stay in cache.

Their squares are added in one dot product: several smaller ones wait for all threads each time.
"""
BLOCK = 1 << 15
"""Entries that one thread works on at a time."""
_FEW = 2
"""Threads up to which NumPy's one thread is as fast: it waits for nobody."""
_DOUBLES = (torch.float64, torch.complex128)
_TINY = 1 << 10
"""Entries up to which it costs more to make an array of NumPy's of a tensor than to copy it."""


def _access(x: torch.Tensor) -> Access:
    # There is no public test for a tensor inside torch.func's transforms (torch 2.13).
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x):
        return "never"
    if x.device.type == "meta" or torch._C._get_tracing_state() is not None:
        return "never"
    if x.device.type != "cpu":
        return "sync"
    recorded = x.requires_grad and torch.is_grad_enabled()
    # So is every tensor while forward-mode derivatives are taken; there is no public test (2.13).
    return "graph" if recorded or torch.autograd.forward_ad._current_level >= 0 else "free"


def _abs_max(namespace: Any, leaves: Sequence[torch.Tensor], wide: Any) -> Sequence[Any]:
    if not isinstance(leaves, Known):
        return _kernels.abs_max(namespace, leaves, wide)
    return [
        torch.stack(
            [_kernels.abs_max(xp, [piece], wide)[0] for piece in _kernels.pieces(leaf, BLOCK)]
        ).max()
        for leaf in leaves
    ]


def _sum_squares(
    namespace: Any, leaves: Sequence[torch.Tensor], wide: Any, scale: Any
) -> Sequence[Any]:
    if not isinstance(leaves, Known):
        if _on_devices(leaves):
            return _torch_cuda.sum_squares(namespace, leaves, wide, scale)
        if not isinstance(scale, float) or any(_access(leaf) != "free" for leaf in leaves):
            double = any(leaf.dtype in _DOUBLES for leaf in leaves)
            if double and all(_access(leaf) == "graph" for leaf in leaves):
                return [_recorded(leaf, scale) for leaf in leaves]
            return _kernels.sum_squares(namespace, leaves, wide, scale)
    kinds = _known.kinds(leaves)
    single = functools.partial(_of_leaf, closely=any(kind.precision == 53 for kind in kinds))
    if scale != 1.0 or any(kind.family == "complex" for kind in kinds):
        return [single(leaf, scale) for leaf in leaves]
    sizes = [leaf.numel() for leaf in leaves]
    shared = isinstance(leaves, Known) and not any(kind.name == "bfloat16" for kind in kinds)
    large = sum(sizes) > _TINY * len(sizes)
    joined = _joined_by_numpy if shared and large else _joined
    return _array_sums.of_leaves(leaves, sizes, joined, single)


def _joined_by_numpy(leaves: Sequence[torch.Tensor]) -> Any:
    plain = [leaf.detach() if leaf.requires_grad else leaf for leaf in leaves]
    return _array_sums.joined(list(map(torch.Tensor.numpy, plain)))


@torch.no_grad()
def _joined(leaves: Sequence[torch.Tensor]) -> Any:
    flat = [leaf if leaf.ndim == 1 else leaf.reshape(-1) for leaf in leaves]
    return torch.cat(flat).to(torch.float64).numpy()


def _recorded(leaf: torch.Tensor, scale: Any) -> torch.Tensor:
    """Return Σ (scale·|x|)² as a tensor: torch's own sum of 10⁷ float64 entries loses more."""
    parts = (leaf.real, leaf.imag) if leaf.is_complex() else (leaf,)
    ys = [_kernels.scaled(part.to(torch.float64), scale) for part in parts]
    total: torch.Tensor = _kernels.total(xp, [_sums.whole(xp, y * y) for y in ys])
    return total


def _power_sums(
    namespace: Any, leaves: Sequence[torch.Tensor], wide: Any, p: float, scale: Any, unit: Any
) -> Sequence[Any]:
    if not isinstance(leaves, Known) and any(_access(leaf) != "free" for leaf in leaves):
        return _sums.power_sums(namespace, leaves, wide, p, scale, unit)
    with torch.no_grad():
        return _sums.power_sums_in_pieces(namespace, leaves, wide, p, scale, unit, BLOCK)


def _of_leaf(leaf: torch.Tensor, scale: float = 1.0, *, closely: bool) -> float:
    """Return Σ (scale·|x|)²; `closely` if its roundings show in a float64 norm."""
    leaf = leaf.detach().resolve_conj().resolve_neg()
    if leaf.itemsize > 2 and torch.get_num_threads() <= _FEW:
        with np.errstate(all="ignore"):
            return _array_sums.of_leaf(leaf.numpy(), scale, closely=closely)
    if leaf.is_complex():
        leaf = torch.view_as_real(leaf)
    whole = leaf.is_contiguous()
    pieces = torch.split(leaf.view(-1), PIECE) if whole else _kernels.pieces(leaf, PIECE)
    buffer = torch.empty(min(leaf.numel(), PIECE), dtype=torch.float64)
    sums: list[float] = []
    for piece in pieces:
        y = buffer[: piece.numel()]
        (y if whole else y.view(piece.shape)).copy_(piece)
        if scale != 1.0:
            y.mul_(scale)
        # Squares of float32 are exact in float64, and for a float32 norm any order of summation
        # will do; for a float64 one torch's cascade loses less than a running sum.
        sums.append((y.mul_(y).sum() if closely else torch.dot(y, y)).item())
    return _floats.total(sums)


def _on_devices(leaves: Sequence[torch.Tensor]) -> bool:
    """Tell whether all are tensors where a launch is dear, and are worked on as they are."""
    return all(x.device.type not in ("cpu", "mps") and _access(x) != "never" for x in leaves)


def _total(namespace: Any, values: Sequence[torch.Tensor]) -> Any:
    return (_torch_cuda if _on_devices(values) else _kernels).total(namespace, values)


def _scale(
    namespace: Any, leaves: Sequence[torch.Tensor], factor: _kernels.Factor
) -> Sequence[torch.Tensor]:
    known = isinstance(leaves, Known)
    if not known and _on_devices(leaves):
        return _torch_cuda.scale(namespace, leaves, factor)
    if not known or not _whole(factor):
        return _kernels.scale(namespace, leaves, factor)
    new = [torch.empty_like(leaf) for leaf in leaves]
    for leaf, target in zip(leaves, new, strict=True):
        if leaf.itemsize > 2:
            pre, rest = factor.wide if leaf.dtype in _DOUBLES else factor.narrow
            source = leaf if pre is None else torch.mul(leaf, pre, out=target)
            torch.mul(source, rest, out=target)
            continue
        # Half types are widened: in pieces, so that it happens in cache.
        pairs = zip(_kernels.pieces(leaf, BLOCK), _kernels.pieces(target, BLOCK), strict=True)
        for piece, out in pairs:
            out.copy_(_kernels.scale(namespace, [piece], factor)[0])
    return new


def _scale_in_place(_: Any, leaves: Sequence[torch.Tensor], factor: _kernels.Factor) -> None:
    if not isinstance(leaves, Known) and _on_devices(leaves):
        _torch_cuda.scale_(xp, leaves, factor)
        return
    if isinstance(leaves, Known) and len(leaves) > 1 and factor.narrow[0] is factor.wide[0] is None:
        for dtype in {leaf.dtype for leaf in leaves} - {torch.float16, torch.bfloat16}:
            alike = [leaf for leaf in leaves if leaf.dtype == dtype]
            double = dtype in _DOUBLES
            rest = factor.wide[1] if double else factor.narrow[1]
            # By a number this takes three times as long (torch 2.13 on the CPU).
            torch._foreach_mul_(alike, torch.tensor(rest, dtype=dtype.to_real()))
        leaves = [leaf for leaf in leaves if leaf.dtype in (torch.float16, torch.bfloat16)]
    for leaf in leaves:
        kind = kind_of(leaf.dtype)
        if kind.half:
            for piece in _kernels.pieces(leaf, BLOCK) if _whole(factor) else (leaf,):
                piece.copy_(_kernels.scale(xp, [piece], factor)[0])
            continue
        real = torch.float64 if kind.precision == 53 else torch.float32
        for part in factor.wide if kind.precision == 53 else factor.narrow:
            if part is not None:
                # A float64 factor with axes of its own would have the product formed in float64.
                leaf.mul_(part if isinstance(part, float) else part.to(real))


def _whole(factor: _kernels.Factor) -> bool:
    """Tell whether one number goes for a leaf: with axes of its own a factor fits no piece."""
    return all(part is None or isinstance(part, float) for part in factor.narrow)


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


def _branch(
    namespace: Any,
    predicate: torch.Tensor,
    if_true: Callable[[], Sequence[torch.Tensor]],
    if_false: Callable[[], Sequence[torch.Tensor]],
) -> Sequence[torch.Tensor]:
    if _access(predicate) == "free":
        return if_true() if predicate.item() else if_false()
    return _kernels.select(namespace, predicate, if_true, if_false)


def _refuse(x: Any) -> str | None:
    if not isinstance(x, torch.Tensor):
        return "is no torch.Tensor"
    if x.layout is not torch.strided:
        return f"has the layout {x.layout}"
    if x.is_nested:
        return "is nested"
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return f"has the dtype {x.dtype}, which torch cannot compare"
    return "is quantised" if x.is_quantized else None


def _unwritable(x: torch.Tensor) -> str | None:
    if x.requires_grad and torch.is_grad_enabled():
        if x.is_leaf:
            return "is a leaf that requires grad (a parameter, not its gradient?)"
        if x._base is not None:
            return "is a view that autograd keeps track of"
    # Compiled code cannot ask (torch 2.13), and refuses such a tensor by itself.
    if not torch.compiler.is_compiling() and x.is_inference():
        return None if torch.is_inference_mode_enabled() else "was made in inference mode"
    if _kernels.overlaps_itself(x.shape, x.stride(), 1):
        return "holds several entries in the same memory"
    return None


def _named_device(_: Any, name: str) -> torch.device | None:
    try:
        return torch.empty(0, device=name).device
    except (AssertionError, RuntimeError):
        return None


def _wide(_: Any, x: torch.Tensor) -> torch.dtype:
    return torch.float32 if x.is_mps else torch.float64


@functools.cache
def _usable() -> str | None:
    try:
        if torch.ones(2).sum().item() != 2:
            return "the sum of two ones is not two"
    except RuntimeError as error:
        return str(error)
    return None


_plain = Backend(
    name="torch",
    xp=xp,
    sum_squares=_sum_squares,
    total=_total,
    scale=_scale,
    abs_max=_abs_max,
    power_sums=_power_sums,
    survey=_torch_tensors.survey,
    scale_=_scale_in_place,
    sqrt=_sqrt,
    branch=_branch,
    access=_access,
    # Metal flushes subnormal numbers to zero; CUDA does so only where a kernel asks for it.
    keeps_bits=lambda x: x.is_cuda,
    refuse=_refuse,
    unwritable=_unwritable,
    usable=_usable,
    device=lambda x: x.device,
    named_device=_named_device,
    wide=_wide,
    # DLPack (torch 2.13) refuses the one bit and loses the other.
    export=lambda x: x.resolve_conj().resolve_neg(),
    block=BLOCK,
    chain=PIECE,
)
backend = accelerated(_plain)
