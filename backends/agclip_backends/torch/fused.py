"""The fused CUDA kernels on PyTorch's tensors.

PyTorch has no public way to run CUDA source that takes a structure by value
(`torch.cuda._compile_kernel`, torch 2.8 and later, passes pointers and numbers alone), so they are
compiled by the NVRTC that comes with it and launched through the driver: see `_cuda.driver`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from agclip.adapters import Details, Terms
from agclip_backends._cuda import driver, images
from agclip_backends._cuda.described import Described, New
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.fused_source import KERNELS, SOURCE
from agclip_backends._cuda.seam import Seam
from agclip_backends._cuda.source import THREADS
from agclip_backends._cuda.table import Place
from agclip_backends.torch import tensors
from agclip_backends.torch.resident import KINDS, TWICE, Resident, dense

_REAL = {2: torch.float32, 3: torch.float64}
_PLAIN = {torch.Tensor, torch.nn.Parameter}
_is_cuda, _requires_grad = map(attrgetter, ("is_cuda", "requires_grad"))
_contiguous, _address = torch.Tensor.is_contiguous, torch.Tensor.data_ptr
_count, _is_neg = torch.Tensor.numel, torch.Tensor.is_neg

_HERE = nullcontext()

OPTIONS = ("--std=c++17", "--fmad=false")
"""What NVRTC is told. The source has no products and sums that could be contracted anyway."""


class TorchLibrary:
    """What `_cuda.fused.Library` asks for, on CUDA tensors."""

    pools_captures = True

    def __init__(self, *defines: str, every_kind: bool = False) -> None:
        """Begin with nothing compiled.

        Args:
            defines: Further options for the compiler, such as "-DBATCH=8".
            every_kind: Compile a kernel once, for all kinds of leaves, instead of for those that
                there are: more seconds the first time, none for other mixtures.
        """
        self._defines = defines
        self._every_kind = every_kind
        self._modules: dict[Any, Any] = {}
        self._devices: dict[int, torch.device] = {}
        self._early: dict[int, bool] = {}
        self.compiled: list[tuple[str, int]] = []
        """The kernels that have been compiled, with the kinds of leaves they are for."""

    def describe(self, leaves: Sequence[Any]) -> Described | None:
        if type(leaves) is Resident:
            return leaves.known.described
        try:
            kinds = tuple([KINDS[leaf.dtype] for leaf in leaves])
        except KeyError:
            return self._describe_slowly(leaves)
        # Methods of the class, called by `map`, take half the time of a loop in Python.
        if False in map(_contiguous, leaves) and not all(map(dense, leaves)):
            return None
        if True in map(_is_neg, leaves):
            return None
        return _in_memory(tuple(map(_address, leaves)), tuple(map(_count, leaves)), kinds)

    def _describe_slowly(self, leaves: Sequence[Any]) -> Described | None:
        kinds, counts = [], []
        for leaf in leaves:
            kind = KINDS.get(leaf.dtype, TWICE.get(leaf.dtype))
            if kind is None or not dense(leaf) or leaf.is_conj() or leaf.is_neg():
                return None
            kinds.append(kind)
            counts.append(leaf.numel() * (2 if leaf.dtype in TWICE else 1))
        return _in_memory(tuple(leaf.data_ptr() for leaf in leaves), tuple(counts), tuple(kinds))

    def as_stored(self, leaves: Sequence[Any]) -> bool:
        return True not in map(_is_neg, leaves)

    def in_order(self, leaves: Sequence[Any]) -> bool:
        return all(map(_contiguous, leaves))

    def place(self, leaves: Sequence[Any]) -> Place | None:
        index = leaves[0].get_device()
        if index < 0 or torch.cuda.current_device() != index:
            return None
        stream = torch._C._cuda_getCurrentRawStream(index)
        return Place(index, stream, torch.cuda.is_current_stream_capturing())

    def together(self, place: Place, leaves: Sequence[Any]) -> bool:
        return all(leaf.get_device() == place.device for leaf in leaves)

    def scalar(self, place: Place, x: Any) -> tuple[int, int] | None:
        kind = KINDS.get(x.dtype)
        if kind is None or x.ndim or x.get_device() != place.device or not self._plain([x]):
            return None
        address = x.data_ptr()
        return (address, kind) if address and not x.is_neg() else None

    def _device(self, place: Place) -> torch.device:
        found = self._devices.get(place.device)
        if found is None:
            found = self._devices[place.device] = torch.device("cuda", place.device)
        return found

    def doubles(self, place: Place, count: int) -> tuple[Any, int]:
        made = torch.empty(count, dtype=torch.float64, device=self._device(place))
        return made, made.data_ptr()

    def zeros(self, place: Place, count: int) -> tuple[Any, int]:
        made = torch.zeros(count, dtype=torch.float64, device=self._device(place))
        return made, made.data_ptr()

    def copied(self, memory: Any, begin: int, count: int) -> Any:
        return memory[begin : begin + count].clone()

    def number(self, place: Place, kind: int) -> tuple[Any, int]:
        made = torch.empty((), dtype=_REAL[kind], device=self._device(place))
        return made, made.data_ptr()

    def upload(self, place: Place, data: bytearray) -> tuple[Any, int]:
        if place.capturing:
            return None, driver.constant(bytes(data))
        words = torch.from_numpy(np.frombuffer(data, np.int64))
        # The allocator of pinned memory keeps what a copy reads until it has been made.
        made = words.pin_memory().to(self._device(place), non_blocking=True)
        return made, made.data_ptr()

    def processors(self, place: Place) -> int:
        return int(torch.cuda.get_device_properties(place.device).multi_processor_count)

    def function(self, place: Place, name: str, kinds: int) -> Any:
        capability = torch.cuda.get_device_capability(place.device)
        kinds = 15 if self._every_kind else kinds
        defines = (*self._defines, f"-DONLY={KERNELS.index(name)}", f"-DKINDS={kinds}")
        key = (capability, name, kinds)
        image = self._modules.get(key)
        if image is None:
            major = int((torch.version.cuda or "12").partition(".")[0])
            image = images.compiled(SOURCE, (*OPTIONS, *defines), capability, major)
            self._modules[key] = image
            self.compiled.append((name, kinds))
        return driver.function(driver.load(image, place.device), name)

    def launch(
        self, place: Place, function: Any, grid: int, parameters: Any, *, follows: bool
    ) -> None:
        early = follows and self._overlaps(place)
        driver.launch(function, grid, THREADS, place.stream, parameters, place.device, early=early)

    def _overlaps(self, place: Place) -> bool:
        """Tell whether a launch may begin before the one before it has ended."""
        found = self._early.get(place.device)
        if found is None:
            capability = torch.cuda.get_device_capability(place.device)
            found = self._early[place.device] = capability >= (9, 0) and driver.version() >= 12030
        return found

    def written(self, leaves: Sequence[Any]) -> None:
        # Autograd cannot see what the kernels do to tensors that it may have saved.
        tensors.written(leaves)

    def details(self, report: Any, kinds: Sequence[int]) -> Details:
        clipped, nonfinite = report.view(torch.uint8)[16:18].view(torch.bool).unbind()
        norm = report[0] if 3 in kinds else report.view(torch.float32)[5]
        # A view of each leaf's norm takes a microsecond, and few callers look at one.
        norms = partial(_norms_of, report, kinds)
        return Details(norm, norms, report[1], clipped, nonfinite)

    def takes(self, leaves: Sequence[Any], terms: Terms | None, scalars: Sequence[Any]) -> bool:
        given = [x for x in scalars if x is not None and type(x) is not float]
        # Magnitudes of complex numbers are none of their parts.
        by_parts = terms is None or terms.order != 2
        if type(leaves) is Resident:  # what is asked below has been asked
            if given and not self._plain(given):
                return False
            return torch.version.hip is None and not (by_parts and leaves.known.complex)
        if tensors.watched() or is_in_torch_dispatch_mode():
            return False
        if not self._plain([*leaves, *given]) or not self._here(leaves):
            return False
        return not (by_parts and any(map(torch.is_complex, leaves)))

    def _plain(self, given: Sequence[Any]) -> bool:
        """Tell whether nothing but PyTorch itself has a say in what is done with tensors."""
        if not set(map(type, given)) <= _PLAIN:
            return False
        return not (torch.is_grad_enabled() and any(map(_requires_grad, given)))

    def _here(self, leaves: Sequence[Any]) -> bool:
        """Tell whether leaves are on devices of CUDA; those of ROCm go by the same name."""
        return torch.version.hip is None and all(map(_is_cuda, leaves))

    def on(self, leaves: Sequence[Any]) -> AbstractContextManager[Any]:
        index = leaves[0].get_device()
        if torch.cuda.current_device() == index:
            return _HERE
        return torch.cuda.device(index)

    def like(self, leaves: Sequence[Any], described: Described) -> New:
        made = list(map(torch.empty_like, leaves))
        return New(made, described.moved(map(_address, made)))


def _in_memory(
    addresses: tuple[int, ...], counts: tuple[int, ...], kinds: tuple[int, ...]
) -> Described | None:
    """Describe leaves; None if one is of PyTorch's zeros that have no memory."""
    if 0 in addresses and any(n and not at for at, n in zip(addresses, counts, strict=True)):
        return None
    return Described(addresses, counts, kinds)


def _norms_of(report: torch.Tensor, kinds: Sequence[int]) -> list[torch.Tensor]:
    """Return the norm of each leaf: views, of what no launch and no wait is needed for."""
    count = len(kinds)
    begin = 2 * (3 + count)
    norms = report.view(torch.float32)[begin : begin + count].unbind()
    if 3 not in kinds:
        return list(norms)
    pairs = zip(norms, report[3 : 3 + count].unbind(), kinds, strict=True)
    return [wide if kind == 3 else narrow for narrow, wide, kind in pairs]


room = Room(TorchLibrary())
seam = Seam(room)
