"""PyTorch's tensors on a device: few launches for a whole list of them, and nobody waits.

The functions have the contracts of `Backend.sum_squares`, `scale` and `scale_`. They work on any
device, but are meant for those where a launch or a synchronisation is dear. On CUDA the kernels of
`_cuda.halves` do it in one launch; where they cannot, PyTorch's calls for lists do. Tensors that
these do not take (complex, of 2**31 elements or more) and factors with axes of their own go the
default way, tensor by tensor. So does all that autograd records: a leaf, or every leaf beside a
factor that depends on what is differentiated by, for a call with `out=` has no derivative.

What they rest on, by the sources of PyTorch's CUDA kernels:

* `_foreach_norm(..., dtype=float64)` widens an element before it is squared, and adds in float64
  (foreach_reduce.cuh): squares of float32 are exact, and cannot leave the range. It returns the
  root, whose square is right to 2**-51. That of float64 tensors would be less than the plain sum.
* `_foreach_mul_` reads a 0-d tensor on the device, in one launch, if its dtype is the tensors'
  (ForeachBinaryOpScalarTensor.cu). Another one is first rounded to their dtype.
* Calls for lists take one launch if all tensors fill their memory without gaps (ForeachUtils.h);
  with a single one that does not, the whole list goes tensor by tensor.
* An operand with an axis takes part in type promotion: `x.mul_(c)` with x of float32 or a half type
  and c of float64 and shape (1,) forms the product in float64, and rounds it through float32. A
  product of two float32 numbers, one times a power of two, is exact in float64: so one pass has the
  bits of two multiplications in float32, and cannot underflow between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from agclip import adapters
from agclip.adapters import Factor
from agclip_backends._cuda import halves
from agclip_backends.torch import scale as _scale
from agclip_backends.torch.fused import seam
from agclip_backends.torch.tensors import dense, watched

_NARROW = (torch.float16, torch.bfloat16, torch.float32)
_MOST = (1 << 31) - 1

LARGE = 1 << 20
"""Elements of a float32 tensor for which one pass of its own is cheaper than two for the list."""


def sum_squares(xp: Any, leaves: Sequence[torch.Tensor], acc_dtype: Any, scale: Any) -> list[Any]:
    """Return Σ (scale·|x|)² of each leaf, formed in `acc_dtype`."""
    if acc_dtype == torch.float64 and adapters.is_one(scale):
        sums = seam.sums(leaves)
        if sums is not None:
            return list(sums.unbind())
    results: list[Any] = [None] * len(leaves)
    if acc_dtype == torch.float64 and adapters.is_one(scale):
        for dtype, places in _groups(leaves):
            if dtype in _NARROW:
                members = [leaves[i] for i in places]
                norms = torch._foreach_norm(members, 2, dtype=torch.float64)
                for i, square in zip(places, torch._foreach_mul(norms, norms), strict=True):
                    results[i] = square
    for i, found in enumerate(results):
        if found is None:
            (results[i],) = adapters.sum_squares(xp, [leaves[i]], acc_dtype, scale)
    return results


def total(_: Any, values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of 0-d tensors of one device, in two launches; in one if they are a row."""
    if len(values) == 1:
        return values[0]
    row = _row(values)
    return (torch.stack(list(values)) if row is None else row).sum()


def _row(values: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Return the tensor that values are all the elements of, in order; None if there is none."""
    row, count = values[0]._base, len(values)
    if row is None or row.numel() != count or not row.is_contiguous():
        return None
    begin, size = row.data_ptr(), row.itemsize
    addresses = map(torch.Tensor.data_ptr, values)
    return row if list(addresses) == list(range(begin, begin + count * size, size)) else None


def scale(xp: Any, leaves: Sequence[torch.Tensor], factor: Factor) -> list[torch.Tensor]:
    """Return each leaf times the factor in new memory; a factor of one changes no real number."""
    made = _multiplied(leaves, factor, inplace=False)
    if made is not None:
        return list(made)
    new: list[Any] = [None] * len(leaves)
    if _is_one_number(factor):
        for _, places in _groups(leaves, factor):
            for i in places:
                new[i] = torch.empty_like(leaves[i])
            _multiply([leaves[i] for i in places], [new[i] for i in places], factor)
    for i, made in enumerate(new):
        if made is None:
            (new[i],) = adapters.scale(xp, [leaves[i]], factor)
    return new


def scale_(_: Any, leaves: Sequence[torch.Tensor], factor: Factor) -> None:
    """Multiply each leaf by the factor in place."""
    if _multiplied(leaves, factor, inplace=True) is not None:
        return
    rest = set(range(len(leaves)))
    if _is_one_number(factor):
        for _, places in _groups(leaves, factor):
            rest.difference_update(places)
            members = [leaves[i] for i in places]
            _multiply(members, members, factor)
    _scale.each_([leaves[i] for i in sorted(rest)], factor)


def sum_slices(_: Any, leaves: Sequence[torch.Tensor], counts: Sequence[int]) -> Any:
    """Return Σ|x|² of slices of all leaves in one launch; None if it cannot be done so."""
    return seam.sums(leaves, counts)


def scale_slices(
    _: Any,
    leaves: Sequence[torch.Tensor],
    counts: Sequence[int],
    factor: Factor,
    inplace: bool,
) -> Sequence[torch.Tensor] | None:
    """Return leaves with each slice times its own number, likewise."""
    if torch.is_grad_enabled() and any(map(_recorded, _parts(factor))):
        return None

    def record() -> tuple[torch.Tensor, int]:
        made = torch.stack([x.expand(sum(counts)) for x in _words(factor, leaves[0].device)], 1)
        return made, made.data_ptr()

    return seam.multiply(leaves, record, inplace=inplace, slices=counts)


def _multiplied(
    leaves: Sequence[torch.Tensor], factor: Factor, *, inplace: bool
) -> Sequence[torch.Tensor] | None:
    """Have the products made in one launch; None if they cannot be."""
    parts = _parts(factor)
    if not _is_one_number(factor) or (torch.is_grad_enabled() and any(map(_recorded, parts))):
        return None

    def record() -> tuple[torch.Tensor, int]:
        made = torch.stack(_words(factor, leaves[0].device))
        return made, made.data_ptr()

    return seam.multiply(leaves, record, inplace=inplace)


def _words(factor: Factor, device: torch.device) -> list[torch.Tensor]:
    """Return what the kernel reads: three words that are not looked at, the factor, a flag."""
    words = [_tensor(1.0 if x is None else x, torch.float64, device) for x in _parts(factor)]
    return [*words[:3], *words, _tensor(halves.STATE, torch.float64, device)]


def _parts(factor: Factor) -> tuple[Any, ...]:
    return (*factor.narrow, *factor.wide)


def _is_one_number(factor: Factor) -> bool:
    return all(part is None or isinstance(part, float) or part.ndim == 0 for part in _parts(factor))


def _groups(
    leaves: Sequence[torch.Tensor], factor: Factor | None = None
) -> Iterator[tuple[torch.dtype, list[int]]]:
    """Yield the positions of leaves that calls for lists take, and their dtype: those of a device.

    A leaf with gaps makes a group of its own: it would have the others go one by one too.
    """
    found: dict[tuple[torch.device, torch.dtype, int | None], list[int]] = {}
    recording = torch.is_grad_enabled()
    if watched() or (recording and factor is not None and any(map(_recorded, _parts(factor)))):
        return
    for i, leaf in enumerate(leaves):
        fits = leaf.dtype in _NARROW or leaf.dtype == torch.float64
        # An empty tensor has thrown older releases of the norms out of step (torch 2.4), and the
        # elements of a negative view are not what memory holds.
        fits = fits and 0 < leaf.numel() <= _MOST and not leaf.is_neg()
        if fits and not (recording and leaf.requires_grad):
            alone = None if leaf.is_contiguous() or dense(leaf) else i
            found.setdefault((leaf.device, leaf.dtype, alone), []).append(i)
    for (_, dtype, _), places in found.items():
        yield dtype, places


def _recorded(part: Any) -> bool:
    return isinstance(part, torch.Tensor) and part.requires_grad


def _multiply(
    sources: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], factor: Factor
) -> None:
    """Write the products of tensors of one device and dtype to targets, maybe the same ones."""
    dtype, device = sources[0].dtype, sources[0].device
    pair = factor.wide if dtype == torch.float64 else factor.narrow
    real = torch.float64 if dtype == torch.float64 else torch.float32
    parts = [_tensor(part, real, device) for part in pair if part is not None]
    alone: list[int] = []
    together: list[int] = []
    for i, source in enumerate(sources):
        many_passes = dtype == torch.float32 and len(parts) > 1 and source.numel() >= LARGE
        (alone if dtype.itemsize == 2 or many_passes else together).append(i)
    if alone:
        wide = parts[0] if len(parts) == 1 else parts[0].to(torch.float64) * parts[1]
        for i in alone:
            _multiply_alone(sources[i], targets[i], wide)
    if together:
        chosen = [sources[i] for i in together]
        written = [targets[i] for i in together]
        if chosen[0] is not written[0]:
            torch._foreach_copy_(written, chosen)
        for part in parts:
            torch._foreach_mul_(written, part)


def _multiply_alone(source: torch.Tensor, target: torch.Tensor, factor: torch.Tensor) -> None:
    if source.ndim == 0:
        source, target = source[None], target[None]
    torch.mul(source, factor[None], out=target)


def _tensor(part: Any, real: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a part of the factor as a 0-d tensor: a float by a launch, not by a copy."""
    if isinstance(part, float):
        return torch.full((), part, dtype=real, device=device)
    made: torch.Tensor = part.to(real)
    return made
