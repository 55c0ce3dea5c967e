"""A list of tensors at a glance: whether all are plain memory of the host, and where it lies."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue] - built in
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from agclip.adapters import Access, Kind, LeafBatch, kind_named
from agclip_backends._host import tables
from agclip_backends._host.loader import loader
from agclip_backends._host.team import TEAMS, Team, team_of
from agclip_backends.torch import dlpack, places, resident

BLOCK = 1 << 15
"""Elements that one thread works on at a time."""

_TYPES = {torch.Tensor, torch.nn.Parameter}
_DISPATCH = "__torch_dispatch__"  # which torch documents, and its types do not have (2.13)
_ORDINARY_DISPATCH = getattr(torch.Tensor, _DISPATCH)
_KINDS = {
    getattr(torch, name): kind_named(name)
    for name in ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
}
_COMPLEX = {kind for kind in _KINDS.values() if kind.family == "complex"}
_kind = _KINDS.__getitem__
_CODES = {dtype: tables.CODES[kind.name] for dtype, kind in _KINDS.items()}
_is_cpu, _is_nested = map(attrgetter, ("is_cpu", "is_nested"))
_dtype, _requires_grad = map(attrgetter, ("dtype", "requires_grad"))
_data_ptr, _numel = torch.Tensor.data_ptr, torch.Tensor.numel
_is_contiguous, _is_inference = torch.Tensor.is_contiguous, torch.Tensor.is_inference
_is_conj, _is_neg = torch.Tensor.is_conj, torch.Tensor.is_neg


def survey(leaves: Sequence[torch.Tensor], types: set[type], inplace: bool) -> LeafBatch | None:
    """Return dense tensors on the CPU as a batch, with their addresses for compiled kernels.

    Those of one device of CUDA are known too, but for what would take reading them.
    """
    if watched() or is_in_torch_dispatch_mode() or not types <= _TYPES:
        return None
    kernels = loader.kernels()
    if kernels is not None:
        described = _described(leaves, kernels, inplace)
        if described is not None:
            return described
    if not all(map(_is_cpu, leaves)):
        return _on_device(leaves, inplace, kernels) if leaves[0].is_cuda else None
    seen = _seen(leaves, inplace)
    if seen is None:
        return None
    kinds, column, each, addresses, sizes = seen
    counts = tables.counts(sizes, column)
    if kernels is not None:
        table = _table(addresses, counts, each)
        if kernels.complete(table, inplace):
            return tables.Leaves(
                leaves, column, table, kernels, _LIBRARY, kinds=kinds, distinct=inplace
            )
    batch = LeafBatch(leaves, column, counts, kinds=kinds)
    if kernels is None:
        loader.went_without(len(leaves), batch.elements)
    batch.distinct = inplace and places.apart(addresses, sizes, set(each))
    return batch


def _on_device(
    leaves: Sequence[torch.Tensor], inplace: bool, kernels: Any
) -> resident.Resident | None:
    if kernels is None and len(leaves) >= resident.MANY:
        # The kernels save 0.2 microseconds a leaf here: what array calls take for half an element.
        loader.went_without(0, len(leaves) // 2)
    return resident.survey(leaves, inplace, kernels=kernels)


def _described(leaves: Sequence[torch.Tensor], kernels: Any, inplace: bool) -> tables.Leaves | None:
    """Return tensors as a batch by one call for all; None to have each asked for itself."""
    if not leaves[0].is_cpu or not _unrecorded(leaves, inplace):
        return None
    table, found = dlpack.table_of(leaves, kernels, written=inplace)
    if found < 0:
        return None
    kinds = dlpack.kinds_of(found)
    if not kinds.isdisjoint(_COMPLEX):
        return None
    column = [*kinds] * len(leaves) if len(kinds) == 1 else list(map(_kind, map(_dtype, leaves)))
    return tables.Leaves(leaves, column, table, kernels, _LIBRARY, kinds=kinds, distinct=inplace)


class _Seen(NamedTuple):
    """What is known of ordinary tensors."""

    kinds: frozenset[Kind]
    column: list[Kind]
    """Of each leaf."""
    dtypes: list[torch.dtype]
    addresses: list[int]
    sizes: list[int]


def _seen(leaves: Sequence[torch.Tensor], inplace: bool) -> _Seen | None:
    """Return what is known of leaves; None if one is not what its memory holds."""
    each = list(map(_dtype, leaves))
    dtypes = set(each)
    if not dtypes <= _KINDS.keys():
        return None
    kinds = frozenset(map(_kind, dtypes))
    column = [*kinds] * len(each) if len(kinds) == 1 else list(map(_kind, each))
    try:
        if not _ordinary(leaves, inplace):
            return None
        addresses = list(map(_data_ptr, leaves))
    except RuntimeError:
        # Sparse and other layouts have no such thing as contiguity, or an address (torch 2.13).
        return None
    sizes = list(map(_numel, leaves))
    if _not_as_stored(leaves, kinds, addresses, sizes):
        return None
    return _Seen(kinds, column, each, addresses, sizes)


def hosted(leaves: Sequence[torch.Tensor]) -> bool:
    """Tell whether it is known that the values of all leaves can be read for nothing."""
    return isinstance(leaves, LeafBatch) and leaves.access == "free"


def watched() -> bool:
    """Tell whether what is done with tensors becomes a program, or a derivative, elsewhere.

    There is no public test for torch.func's transforms, nor for forward-mode derivatives (torch
    2.13).
    """
    return (
        torch.compiler.is_compiling()
        or _functorch.peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )


def recorded_by_mode() -> bool:
    """Tell whether operations only give shapes, or become a program: `FakeTensorMode`, `make_fx`.

    Other modes watch operations on values that can be read, such as `FlopCounterMode`. There is no
    public test for the ones meant here (torch 2.13).
    """
    if not is_in_torch_dispatch_mode():
        return False
    key = torch._C._TorchDispatchModeKey
    found = [torch._C._get_dispatch_mode(k) for k in (key.FAKE, key.PROXY, key.FUNCTIONAL)]
    before: Any = torch._ops._get_dispatch_mode_pre_dispatch
    found += [before(k) for k in (key.PROXY, key.FUNCTIONAL)]
    return any(mode is not None for mode in found)


def dispatches(x: torch.Tensor) -> bool:
    """Tell whether a tensor is of a class that carries operations out itself."""
    return type(x) not in _TYPES and getattr(type(x), _DISPATCH) is not _ORDINARY_DISPATCH


def _distributed(x: torch.Tensor) -> bool:
    """Tell whether a tensor is a DTensor."""
    return hasattr(type(x), "full_tensor")


def unserved(x: torch.Tensor) -> str | None:
    """Return why a tensor that carries operations out itself is not taken; None if it is."""
    if isinstance(x, FunctionalTensor):
        return None
    if isinstance(x, FakeTensor):
        active = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
        return None if active is x.fake_mode else "is a FakeTensor outside of its FakeTensorMode"
    if _distributed(x):
        return "is a DTensor, of which every process holds a part,"
    return f"is a {type(x).__qualname__}, which carries out operations itself,"


def _ordinary(leaves: Sequence[torch.Tensor], inplace: bool) -> bool:
    """Tell whether the elements can be read, and overwritten, behind autograd's back."""
    if not _unrecorded(leaves, inplace) or any(map(_is_nested, leaves)):
        return False
    return all(map(_is_contiguous, leaves)) or all(map(dense, leaves))


def _unrecorded(leaves: Sequence[torch.Tensor], inplace: bool) -> bool:
    """Tell whether autograd neither records what is done with tensors nor forbids to write them."""
    if torch.is_grad_enabled() and any(map(_requires_grad, leaves)):
        return False
    writes = inplace and not torch.is_inference_mode_enabled()
    return not (writes and any(map(_is_inference, leaves)))


def _not_as_stored(
    leaves: Sequence[torch.Tensor],
    kinds: frozenset[Kind],
    addresses: list[int],
    sizes: list[int],
) -> bool:
    """Tell whether elements are not what memory holds: zeros without any, or complex views.

    For real views with another sign there is `Library.as_stored`.
    """
    if not kinds.isdisjoint(_COMPLEX) and (any(map(_is_conj, leaves)) or any(map(_is_neg, leaves))):
        return True
    return 0 in addresses and any(n and not a for a, n in zip(addresses, sizes, strict=True))


def dense(x: torch.Tensor) -> bool:
    """Tell whether the elements fill a piece of memory, in whatever order of axes."""
    reach = 1
    for stride, length in sorted(zip(x.stride(), x.shape, strict=True)):
        if length != 1 and stride != reach:
            return False
        reach *= length
    return True


def _table(addresses: list[int], counts: list[int], dtypes: list[torch.dtype]) -> Any:
    table = np.empty((4, len(addresses) + 1), np.int64)
    table[0, :-1] = addresses
    table[1, :-1] = counts
    alike = dtypes.count(dtypes[0]) == len(dtypes)
    table[2, :-1] = _CODES[dtypes[0]] if alike else list(map(_CODES.__getitem__, dtypes))
    return table


def written(leaves: Sequence[torch.Tensor]) -> None:
    """Have autograd notice that tensors were overwritten."""
    try:
        torch.autograd.graph.increment_version(leaves)
    except (AttributeError, TypeError):  # takes one at a time in older releases
        for leaf in leaves:
            torch.autograd.graph.increment_version(leaf)


@functools.cache
def team() -> Team | None:
    """Return PyTorch's own threads, if they are of OpenMP."""
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return None
    return team_of(torch._C.__file__)


TEAMS["torch"] = team

_LIBRARY = tables.Library(
    new=torch.empty_like,
    addresses=lambda leaves, _: np.fromiter(map(_data_ptr, leaves), np.int64, len(leaves)),
    threads=torch.get_num_threads,
    written=written,
    # The imaginary part of a conjugate is a view that negates: one number, or made by `as_strided`,
    # it has no gaps.
    as_stored=lambda leaves: True not in map(_is_neg, leaves),
    team=team,
)


def _plainly_free(x: torch.Tensor) -> bool:
    """Tell the usual case, in which `access` has nothing else to ask."""
    return (
        not watched()
        and type(x) in _TYPES
        and x.is_cpu
        and not x.requires_grad
        and not is_in_torch_dispatch_mode()
        and not _functorch.is_functorch_wrapped_tensor(x)
    )


def access(x: torch.Tensor) -> Access:
    """Return what reading the value of a tensor costs: see `Backend.access`."""
    if _plainly_free(x):
        return "free"
    # There is no public test for a tensor inside torch.func's transforms (torch 2.13).
    if torch.compiler.is_compiling() or _functorch.is_functorch_wrapped_tensor(x):
        return "never"
    if x.device.type == "meta" or torch._C._get_tracing_state() is not None:
        return "never"
    if dispatches(x) or recorded_by_mode():
        # The values of a DTensor are on several processes: never free to read, but they are there.
        return "sync" if _distributed(x) and not recorded_by_mode() else "never"
    if x.device.type != "cpu":
        return "sync"
    # So is every tensor while torch.func or forward mode takes derivatives.
    recorded = watched() or (x.requires_grad and torch.is_grad_enabled())
    return "graph" if recorded else "free"


def on_devices(leaves: Sequence[torch.Tensor]) -> bool:
    """Tell whether all are tensors where a launch is dear, and are worked on as they are."""
    return all(x.device.type not in ("cpu", "mps") and access(x) != "never" for x in leaves)
