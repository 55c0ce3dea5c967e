"""PyTorch's tensors that pretend to be on a GPU: no data, but every operation goes through here.

PyTorch's own FakeTensors answer for shapes, dtypes and devices. agclip takes them for what is being
compiled; here they pass for ordinary tensors on "cuda", so its code for devices runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import agclip
from agclip._backends import kernels as kernels_
from agclip._backends import powers, registry
from agclip_backends.torch import cuda, tensors

READS = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select"}
"""What needs a value, or a number of values, on the host."""

ARITHMETIC = {"add", "add_", "sub", "mul", "mul_", "div", "le", "lt", "ge", "gt", "eq", "ne"}
"""What takes a 0-d operand of the host as an argument of its kernel."""

NO_LAUNCH = {
    *("alias", "as_strided", "detach", "expand", "imag", "real", "select", "slice", "unsqueeze"),
    *("view", "_unsafe_view", "view_as_real", "view_as_complex", "lift_fresh", "permute", "t"),
    *("empty", "empty_like", "empty_strided", "unbind", "split", "squeeze", "transpose", "device"),
}


_places: dict[int, int] = {}


class Watch(TorchDispatchMode):
    """Notes what is launched, what is copied between host and device, and what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: list[str] = []
        self.copied: list[str] = []
        self.read: list[str] = []
        self.lists: list[tuple[str, list[torch.Tensor]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        given = _tensors((args, kwargs))
        result = function(*args, **(kwargs or {}))
        touched = {x.device.type for x in (*given, *_tensors(result))}
        hosted = [x for x in given if x.device.type == "cpu"]
        if name in READS:
            self.read.append(name)
        if len(touched) > 1 and not (name in ARITHMETIC and all(x.ndim == 0 for x in hosted)):
            self.copied.append(name)
        if "cuda" in touched and name not in NO_LAUNCH:
            self.launched.append(name)
        if name.startswith("_foreach"):
            self.lists += [(name, x) for x in args if isinstance(x, (list, tuple))]
        return result


def _tensors(x: Any) -> list[torch.Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(x) if isinstance(leaf, torch.Tensor)]


@contextlib.contextmanager
def _no_types_known() -> Iterator[None]:
    """Have the backend of every type looked up anew, and what was known known again afterwards."""
    before = dict(registry.BY_TYPE)
    registry.BY_TYPE.clear()
    try:
        yield
    finally:
        registry.BY_TYPE.clear()
        registry.BY_TYPE.update(before)


@contextlib.contextmanager
def mode() -> Iterator[None]:
    """Have tensors on "cuda" made without one, and go the way of those that are on a GPU."""
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True):
        patch.setattr(tensors, "dispatches", lambda _: False)
        patch.setattr(tensors, "recorded_by_mode", lambda: False)
        patch.setattr(tensors, "_data_ptr", _address)
        patch.setattr(torch.Tensor, "data_ptr", _address)
        # A build without CUDA has no guard for its devices, for which indexing and the derivative
        # of `copy_` ask (torch 2.13). Not on `torch.Tensor`: a class that has once had a
        # `__getitem__` of its own remains a sequence to C, and `torch.tensor([x])` then asks a 0-d
        # tensor for its length (CPython 3.11).
        patch.setattr(FakeTensor, "__getitem__", _part)
        patch.setattr(FakeTensor, "__setitem__", lambda x, key, value: _part(x, key).copy_(value))
        patch.setattr(torch.Tensor, "copy_", _copied)
        patch.setattr(torch.Tensor, "__float__", functools.partialmethod(_read, float))
        with _no_types_known():
            yield


def _address(x: torch.Tensor) -> int:
    """Return an address: views of one tensor share its memory, and nothing else does."""
    place = _places.setdefault(x.untyped_storage()._cdata, len(_places) + 1)
    return (place << 24) + x.storage_offset() * x.itemsize


def _copied(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    with torch._C._AutoDispatchBelowAutograd():
        torch.ops.aten.copy_.default(x, values)
    return x


def _read(x: torch.Tensor, kind: type) -> Any:
    """Return the value of a tensor that has one: it was made before the mode, on the host."""
    with contextlib.nullcontext() if isinstance(x, FakeTensor) else _disable_current_modes():
        return kind(x.item())


def _part(x: torch.Tensor, key: Any) -> torch.Tensor:
    """Return what indexing by slices, integers, None and an ellipsis does."""
    keys = key if isinstance(key, tuple) else (key,)
    axis = 0
    for i, one in enumerate(keys):
        if one is None:
            x, axis = x.unsqueeze(axis), axis + 1
        elif one is Ellipsis:
            axis = x.ndim - sum(other is not None for other in keys[i + 1 :])
        elif isinstance(one, int):
            x = x.select(axis, one)
        else:
            x = torch.ops.aten.slice(x, axis, one.start, one.stop, one.step or 1)
            axis += 1
    return x


def tensor(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a tensor on "cuda"."""
    return torch.empty(shape, dtype=dtype, device="cuda")


@contextlib.contextmanager
def path() -> Iterator[None]:
    """Have CPU tensors, with their values, go the way of tensors on a device."""
    own = agclip.get_backend("torch")
    kernels = {name: getattr(cuda, name) for name in ("sum_squares", "scale", "scale_", "total")}
    made = dataclasses.replace(
        own,
        access=lambda _: "sync",
        keeps_bits=lambda _: True,
        survey=lambda *_: None,
        branch=kernels_.select,
        abs_max=kernels_.abs_max,
        power_sums=powers.power_sums,
        **kernels,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._registered, "torch", made)
        with _no_types_known():
            yield
