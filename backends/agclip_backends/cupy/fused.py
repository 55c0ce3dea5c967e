"""The fused CUDA kernels on CuPy's arrays: compiled, and kept on disk, by CuPy itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import cupy
import numpy as np

from agclip.adapters import Details, Terms
from agclip_backends._cuda import driver
from agclip_backends._cuda.described import Described, New
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.fused_source import KERNELS, SOURCE
from agclip_backends._cuda.seam import Seam
from agclip_backends._cuda.source import THREADS
from agclip_backends._cuda.table import Place
from agclip_backends.cupy import devices, resident
from agclip_backends.cupy.resident import KINDS, TWICE, Surveyed

_HERE = nullcontext()
_REAL = {2: np.float32, 3: np.float64}


class CupyLibrary:
    """What `_cuda.fused.Library` asks for, on CuPy's arrays."""

    pools_captures = False

    def __init__(self, *defines: str) -> None:
        """Take further options for the compiler, such as "-DBATCH=8"."""
        self._defines = defines
        self._modules: list[Any] = []
        self._early: dict[int, bool] = {}

    def describe(self, leaves: Sequence[Any]) -> Described | None:
        return resident.described(leaves)

    def as_stored(self, leaves: Sequence[Any]) -> bool:
        return True

    def in_order(self, leaves: Sequence[Any]) -> bool:
        return all(leaf._c_contiguous for leaf in leaves)

    def place(self, leaves: Sequence[Any]) -> Place | None:
        index = int(leaves[0].data.device_id)
        if cupy.cuda.runtime.getDevice() != index:
            return None
        stream = cupy.cuda.get_current_stream().ptr
        return Place(index, stream, bool(cupy.cuda.runtime.streamIsCapturing(stream)))

    def together(self, place: Place, leaves: Sequence[Any]) -> bool:
        return all(leaf.data.device_id == place.device for leaf in leaves)

    def scalar(self, place: Place, x: Any) -> tuple[int, int] | None:
        kind = KINDS.get(x.dtype)
        if kind is None or x.dtype in TWICE or x.ndim or x.data.device_id != place.device:
            return None
        return int(x.data.ptr), kind

    def doubles(self, place: Place, count: int) -> tuple[Any, int]:
        made = cupy.empty(count, dtype=np.float64)
        return made, int(made.data.ptr)

    def zeros(self, place: Place, count: int) -> tuple[Any, int]:
        made = cupy.empty(count, dtype=np.float64)
        made.data.memset_async(0, made.nbytes)
        return made, int(made.data.ptr)

    def copied(self, memory: Any, begin: int, count: int) -> Any:
        return memory[begin : begin + count].copy()

    def number(self, place: Place, kind: int) -> tuple[Any, int]:
        made = cupy.empty((), dtype=_REAL[kind])
        return made, int(made.data.ptr)

    def upload(self, place: Place, data: bytearray) -> tuple[Any, int]:
        if place.capturing:
            return None, driver.constant(bytes(data))
        # CuPy copies through pinned memory, which it keeps until the copy has been made.
        made = cupy.asarray(np.frombuffer(data, np.int64))
        return made, int(made.data.ptr)

    def processors(self, place: Place) -> int:
        return int(cupy.cuda.Device(place.device).attributes["MultiProcessorCount"])

    def function(self, place: Place, name: str, kinds: int) -> Any:
        defines = (*self._defines, f"-DONLY={KERNELS.index(name)}", f"-DKINDS={kinds}")
        options = ("--std=c++17", "--fmad=false", *defines)
        module = cupy.RawModule(code=SOURCE, options=options)
        with driver.not_captured():
            kernel = module.get_function(name)
        self._modules.append(module)
        return int(kernel.kernel.ptr)

    def launch(
        self, place: Place, function: Any, grid: int, parameters: Any, *, follows: bool
    ) -> None:
        early = follows and self._overlaps(place)
        driver.launch(function, grid, THREADS, place.stream, parameters, place.device, early=early)

    def _overlaps(self, place: Place) -> bool:
        """Tell whether a launch may begin before the one before it has ended."""
        found = self._early.get(place.device)
        if found is None:
            capability = int(cupy.cuda.Device(place.device).compute_capability)
            found = self._early[place.device] = capability >= 90 and driver.version() >= 12030
        return found

    def written(self, leaves: Sequence[Any]) -> None:
        """Do nothing: CuPy keeps no count of the versions of an array."""

    def details(self, report: Any, kinds: Sequence[int]) -> Details:
        facts = report.view(np.bool_)
        norm = report[0] if 3 in kinds else report.view(np.float32)[5]
        # A view of each leaf's norm takes a microsecond, and few callers look at one.
        norms = partial(_norms_of, report, kinds)
        return Details(norm, norms, report[1], facts[16], facts[17])

    def takes(self, leaves: Sequence[Any], terms: Terms | None, scalars: Sequence[Any]) -> bool:
        types = {type(x) for x in scalars if x is not None and type(x) is not float}
        types |= {cupy.ndarray} if type(leaves) is Surveyed else {*map(type, leaves)}
        if cupy.cuda.runtime.is_hip or types != {cupy.ndarray}:
            return False
        # Magnitudes of complex numbers are none of their parts.
        if terms is not None and terms.order == 2:
            return True
        if type(leaves) is Surveyed:
            return all(kind.family != "complex" for kind in leaves.kinds)
        return not any(leaf.dtype in TWICE for leaf in leaves)

    def on(self, leaves: Sequence[Any]) -> AbstractContextManager[Any]:
        if cupy.cuda.runtime.getDevice() == leaves[0].data.device_id:
            return _HERE
        return devices.on(leaves[0].device)

    def like(self, leaves: Sequence[Any], described: Described) -> New:
        made = list(map(cupy.empty_like, leaves))
        return New(made, described.moved([x.data.ptr for x in made]))


def _norms_of(report: Any, kinds: Sequence[int]) -> list[Any]:
    """Return the norm of each leaf: views, of what no launch and no wait is needed for."""
    count, singles = len(kinds), report.view(np.float32)
    return [
        report[3 + i] if kind == 3 else singles[2 * (3 + count) + i] for i, kind in enumerate(kinds)
    ]


room = Room(CupyLibrary())
seam = Seam(room)
