"""PyTorch: blocks on the CPU; tensors throughout on devices, under autograd and when compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import torch

from agclip import Backend, _kernels
from agclip._dtypes import kind_named, kind_of
from agclip._known import Known
from agclip._typing import Access
from agclip_backends import _host
from agclip_backends._loader import loader

BLOCK = 1 << 15
"""Elements that are widened at a time: 256 KiB of float64, which stays in cache."""


def _access(x: torch.Tensor) -> Access:
    # There is no public test for a tensor inside torch.func's transforms (torch 2.13).
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x):
        return "never"
    if x.device.type == "meta":
        return "never"
    if x.device.type != "cpu":
        return "sync"
    return "graph" if x.requires_grad and torch.is_grad_enabled() else "free"


_TYPES = {torch.Tensor, torch.nn.Parameter}
_KINDS = {
    getattr(torch, name): kind_named(name)
    for name in ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
}
_CODES = {dtype: _host.CODES[kind.name] for dtype, kind in _KINDS.items()}
_data_ptr, _numel = torch.Tensor.data_ptr, torch.Tensor.numel


def _survey(leaves: Sequence[torch.Tensor], inplace: bool) -> Known | None:
    # Inside a transform or a compiler nothing may be asked that is not part of the program.
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return None
    if not _TYPES.issuperset(map(type, leaves)) or not all(x.is_cpu for x in leaves):
        return None
    dtypes = {x.dtype for x in leaves}
    if not dtypes <= _KINDS.keys():
        return None
    if torch.is_grad_enabled() and any(x.requires_grad for x in leaves):
        return None
    if not all(x.is_contiguous() or _dense(x) for x in leaves):
        return None
    if inplace and not torch.is_inference_mode_enabled() and any(x.is_inference() for x in leaves):
        return None
    kinds = frozenset(_KINDS[dtype] for dtype in dtypes)
    table, entries = _table(leaves, dtypes)
    kernels = loader.kernels()
    if kernels is None:
        loader.went_without(len(leaves), entries)
    elif kernels.complete(table, inplace):
        return _host.Leaves(leaves, kinds, table, kernels, _LIBRARY)
    return Known(leaves, kinds, entries, "free")


def _dense(x: torch.Tensor) -> bool:
    """Tell whether the entries fill a piece of memory, in whatever order of axes."""
    reach = 1
    for stride, length in sorted(zip(x.stride(), x.shape, strict=True)):
        if length != 1 and stride != reach:
            return False
        reach *= length
    return not (x.is_conj() or x.is_neg())


def _table(leaves: Sequence[torch.Tensor], dtypes: set[torch.dtype]) -> tuple[Any, int]:
    n = len(leaves)
    table = np.empty((4, n + 1), np.int64)
    table[0, :-1] = np.fromiter(map(_data_ptr, leaves), np.int64, n)
    table[1, :-1] = np.fromiter(map(_numel, leaves), np.int64, n)
    if len(dtypes) == 1:
        (dtype,) = dtypes
        table[2] = _CODES[dtype]
        table[1] *= 2 if dtype.is_complex else 1
    else:
        table[2, :-1] = [_CODES[x.dtype] for x in leaves]
        table[1, :-1] *= [2 if x.dtype.is_complex else 1 for x in leaves]
    return table, int(table[1, :-1].sum())


_LIBRARY = _host.Library(
    new=torch.empty_like,
    addresses=lambda leaves: np.fromiter(map(_data_ptr, leaves), np.int64, len(leaves)),
    threads=torch.get_num_threads,
    written=torch.autograd.graph.increment_version,
)


def _abs_max(namespace: Any, leaves: Sequence[torch.Tensor], wide: Any) -> Sequence[Any]:
    if isinstance(leaves, _host.Leaves):
        return _host.abs_max(leaves)
    if not isinstance(leaves, Known):
        return _kernels.abs_max(namespace, leaves, wide)
    return [
        torch.stack(
            [_kernels.abs_max(xp, [piece], wide)[0] for piece in _kernels.pieces(leaf, BLOCK)]
        ).max()
        for leaf in leaves
    ]


def _power_sums(
    namespace: Any, leaves: Sequence[torch.Tensor], wide: Any, p: float, scale: Any, unit: Any
) -> Sequence[Any]:
    plain = p == 1 and _kernels.is_one(scale) and _kernels.is_one(unit)
    if plain and isinstance(leaves, _host.Leaves) and all(k.family == "real" for k in leaves.kinds):
        return _host.sum_magnitudes(leaves)
    return _kernels.power_sums(namespace, leaves, wide, p, scale, unit)


def _exact_sum(_: Any, leaves: Sequence[Any], __: Any, grid: Any) -> int | None:
    return _host.exact_sum(leaves, grid) if isinstance(leaves, _host.Leaves) else None


def _clip(
    _: Any, leaves: Sequence[Any], lows: Sequence[float], highs: Sequence[float], inplace: bool
) -> Sequence[Any] | None:
    if isinstance(leaves, _host.Leaves):
        return _host.clip(leaves, lows, highs, inplace=inplace)
    return None


def _scale(
    namespace: Any, leaves: Sequence[torch.Tensor], factor: _kernels.Factor
) -> Sequence[torch.Tensor]:
    if isinstance(leaves, _host.Leaves):
        return _host.scale(leaves, factor, inplace=False)
    return _kernels.scale(namespace, leaves, factor)


def _sum_squares(
    namespace: Any, leaves: Sequence[torch.Tensor], wide: Any, scale: Any
) -> Sequence[Any]:
    if isinstance(leaves, _host.Leaves):
        return _host.sum_squares(leaves, scale)
    if not isinstance(scale, float) or any(_access(leaf) != "free" for leaf in leaves):
        return _kernels.sum_squares(namespace, leaves, wide, scale)
    size = max((min(leaf.numel() * 2, BLOCK) for leaf in leaves), default=0)
    buffer = torch.empty(size, dtype=wide)
    with torch.no_grad():
        return [_of_leaf(leaf, buffer, scale) for leaf in leaves]


def _of_leaf(leaf: torch.Tensor, buffer: torch.Tensor, scale: float) -> torch.Tensor:
    """Return Σ (scale·|x|)², each block widened into the same buffer."""
    if leaf.is_complex():
        leaf = torch.view_as_real(leaf.resolve_conj())
    if leaf.is_contiguous():
        leaf = leaf.view(-1)
    double = leaf.dtype == torch.float64
    sums = []
    for piece in _kernels.pieces(leaf, BLOCK):
        y = buffer[: piece.numel()]
        y.view(piece.shape).copy_(piece)
        if scale != 1.0:
            y.mul_(scale)
        # A square of float32 is exact in float64, so any order of summation will do; squares of
        # float64 are not, and torch's cascade loses less than a running sum.
        sums.append(y.mul_(y).sum() if double else torch.dot(y, y))
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum()


def _scale_in_place(_: Any, leaves: Sequence[torch.Tensor], factor: _kernels.Factor) -> None:
    if isinstance(leaves, _host.Leaves):
        _host.scale(leaves, factor, inplace=True)
        return
    for leaf in leaves:
        kind = kind_of(leaf.dtype)
        if kind.half:
            for piece in _kernels.pieces(leaf, BLOCK) if leaf.device.type == "cpu" else (leaf,):
                piece.copy_(_kernels.scale(xp, [piece], factor)[0])
            continue
        real = torch.float64 if kind.precision == 53 else torch.float32
        for part in factor.wide if kind.precision == 53 else factor.narrow:
            if part is not None:
                # A float64 factor with axes of its own would have the product formed in float64.
                leaf.mul_(part if isinstance(part, float) else part.to(real))


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


def _wide(_: Any, x: torch.Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64


@functools.cache
def _usable() -> str | None:
    try:
        if torch.ones(2).sum().item() != 2:
            return "the sum of two ones is not two"
    except RuntimeError as error:
        return str(error)
    return None


backend = Backend(
    name="torch",
    xp=xp,
    sum_squares=_sum_squares,
    abs_max=_abs_max,
    power_sums=_power_sums,
    exact_sum=_exact_sum,
    clip=_clip,
    survey=_survey,
    scale=_scale,
    scale_=_scale_in_place,
    sqrt=_sqrt,
    branch=_branch,
    access=_access,
    refuse=_refuse,
    unwritable=_unwritable,
    usable=_usable,
    device=lambda x: x.device,
    wide=_wide,
    block=BLOCK,
)
