"""CPU tensors in the place of CUDA ones, for a rehearsal of what runs on a GPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

import fused_host
from agclip_backends._cuda.table import Place
from agclip_backends.torch.fused import TorchLibrary


class CpuLibrary(TorchLibrary):
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
        return None if kind is None or x.ndim else (x.data_ptr(), kind)

    def _device(self, place):
        return torch.device("cpu")

    def upload(self, place, data):
        return self.host.upload(place, data)

    def processors(self, place):
        return 3

    def function(self, place, name, kinds):
        return name

    def launch(self, place, function, grid, parameters, *, follows):
        self.host.launch(place, function, grid, parameters, follows=follows)


def library():
    """Compile the source for the host, and return the library."""
    folder = Path(tempfile.mkdtemp())
    return CpuLibrary(fused_host.HostLibrary(fused_host.build(folder)))
