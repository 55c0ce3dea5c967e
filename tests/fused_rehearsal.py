"""CPU tensors in the place of CUDA ones, for a rehearsal of what runs on a GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import types
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

import agclip
import fake_cuda
import fused_host
from agclip._backends import kernels, powers, registry
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.seam import Seam
from agclip_backends._cuda.table import Place
from agclip_backends.torch import cuda, resident, tensors
from agclip_backends.torch.fused import TorchLibrary


class CpuLibrary(fused_host.HandedOn, TorchLibrary):
    """The calls of PyTorch as they are, and the kernels on the host."""

    pools_captures = False

    def __init__(self, host):
        super().__init__()
        self.host = host

    def place(self, leaves):
        return Place(0, 7, self.host.capturing)

    def together(self, place, leaves):
        return True

    def scalar(self, place, x):
        kind = {torch.float32: 2, torch.float64: 3}.get(x.dtype)
        taken = kind is not None and not x.ndim and self._plain([x])
        return (x.data_ptr(), kind) if taken else None

    def _here(self, leaves):
        return True

    def on(self, leaves):
        return contextlib.nullcontext()

    def _device(self, place):
        return torch.device("cpu")


def _survey(leaves, classes, inplace):
    if tensors.watched() or is_in_torch_dispatch_mode() or not classes <= tensors._TYPES:
        return None
    return resident.survey(leaves, inplace, lambda _: True)


_NO_HALVES = types.SimpleNamespace(
    sums=lambda _leaves, _slices=None: None,
    multiply=lambda _leaves, _record, *, inplace, slices=None: None,
)


@contextlib.contextmanager
def device(seam, halves=None):
    """Have CPU tensors taken for those of a device, and clipped through a seam if there is one.

    The general program has sums and products from another seam, if there is one.
    """
    own = agclip.get_backend("torch")
    there = {name: getattr(cuda, name) for name in ("sum_squares", "scale_", "total")}

    def scale(xp, leaves, factor):
        # Complex leaves are taken apart before.
        way = own.scale if any(map(torch.is_complex, leaves)) else cuda.scale
        return way(xp, leaves, factor)

    made = dataclasses.replace(
        own,
        scale=scale,
        access=lambda x: "sync" if tensors.access(x) == "free" else tensors.access(x),
        keeps_bits=lambda _: True,
        survey=_survey,
        branch=kernels.select,
        abs_max=kernels.abs_max,
        power_sums=powers.power_sums,
        clip=kernels.nothing if seam is None else seam.clip,
        fused=kernels.nothing if seam is None else seam.fused,
        **there,
    )
    known = mock.patch.dict(registry._registered, {"torch": made})
    with known, mock.patch.object(cuda, "seam", halves or _NO_HALVES), fake_cuda._no_types_known():
        yield


def seam(library):
    """The seam of kernels that have been compiled for the host."""
    return Seam(Room(CpuLibrary(fused_host.HostLibrary(library))))


def library():
    """Compile the source for the host, and return the library."""
    folder = Path(tempfile.mkdtemp())
    return CpuLibrary(fused_host.HostLibrary(fused_host.build(folder)))
