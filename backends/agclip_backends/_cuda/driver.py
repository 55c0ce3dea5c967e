"""NVIDIA's driver and run-time compiler through ctypes: as much as a kernel of our own needs."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

_DRIVERS = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")


_NO_CONTEXT = 201

_CONFIG = struct.Struct("=7I4xQQI4x")
"""CUlaunchConfig: grid, block, shared memory, stream, attributes and their number."""

_EARLY: Any = ctypes.create_string_buffer(struct.pack("=I4xi60x", 6, 1), 72)
"""A CUlaunchAttribute: programmatic stream serialization, allowed."""


class DriverError(RuntimeError):
    """A call of the driver or of the compiler has failed."""


def _first(what: str, names: Iterable[str]) -> Any:
    """Load the first library that there is."""
    tried = []
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            tried.append(name)
    message = f"{what} was not found; looked for {', '.join(tried)}"
    raise DriverError(message)


@functools.cache
def _driver() -> Any:
    library = _first("NVIDIA's driver", _DRIVERS)
    unsigned, pointer = ctypes.c_uint, ctypes.c_void_p
    library.cuLaunchKernel.argtypes = [pointer, *[unsigned] * 7, *[pointer] * 3]
    with contextlib.suppress(AttributeError):  # drivers of CUDA 11.8 and later
        library.cuLaunchKernelEx.argtypes = [ctypes.c_char_p, *[pointer] * 3]
    return library


def _check(status: int, what: str, driver: Any = None) -> None:
    if status:
        text = ctypes.c_char_p()
        (driver or _driver()).cuGetErrorString(status, ctypes.byref(text))
        reason = text.value.decode() if text.value else "unknown error"
        message = f"{what} failed: {reason} (CUDA error {status})"
        raise DriverError(message)


def _make_current(device: int) -> None:
    """Make the context that array libraries share current for a thread that has none yet."""
    driver, handle, context = _driver(), ctypes.c_int(), ctypes.c_void_p()
    _check(driver.cuDeviceGet(ctypes.byref(handle), device), "looking for the device")
    _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle), "taking the context")
    _check(driver.cuCtxSetCurrent(context), "making the context current")


def load(image: bytes, device: int) -> Any:
    """Load a compiled module into the current context, that of the device."""
    module = ctypes.c_void_p()
    with not_captured():
        status = _driver().cuModuleLoadData(ctypes.byref(module), image)
        if status == _NO_CONTEXT:
            _make_current(device)
            status = _driver().cuModuleLoadData(ctypes.byref(module), image)
    _check(status, "loading the kernels")
    return module


def function(module: Any, name: str) -> int:
    """Return the handle of a kernel of a module."""
    found = ctypes.c_void_p()
    # Where modules are loaded lazily, as CUDA does by default since 12.2, it is loaded here.
    with not_captured():
        status = _driver().cuModuleGetFunction(ctypes.byref(found), module, name.encode())
    _check(status, f"looking for {name}")
    return found.value or 0


def version() -> int:
    """Return the version of CUDA that the driver knows, 12030 for 12.3."""
    found = ctypes.c_int()
    _check(_driver().cuDriverGetVersion(ctypes.byref(found)), "asking for the version")
    return found.value


def resident(handle: int, threads: int) -> int:
    """Return how many blocks of a kernel a multiprocessor has room for."""
    count = ctypes.c_int()
    status = _driver().cuOccupancyMaxActiveBlocksPerMultiprocessor(
        ctypes.byref(count), ctypes.c_void_p(handle), threads, ctypes.c_size_t(0)
    )
    _check(status, "asking for the occupancy")
    return count.value


def launch(
    handle: int,
    grid: int,
    threads: int,
    stream: int,
    parameters: Any,
    device: int,
    *,
    early: bool = False,
) -> None:
    """Run a kernel.

    Args:
        handle: The kernel.
        grid: The number of blocks.
        threads: Their threads.
        stream: The stream.
        parameters: An array of the addresses of its arguments.
        device: Whose context is made current if the thread has none.
        early: Let it begin when the launch before it allows that; devices of compute capability
            9.0 or later, and CUDA 12.3 or later if a graph is captured.
    """
    start: Any = _driver().cuLaunchKernelEx if early else _driver().cuLaunchKernel
    given: tuple[Any, ...] = handle, grid, 1, 1, threads, 1, 1, 0, stream, parameters, None
    if early:
        attributes = ctypes.addressof(_EARLY)
        config = _CONFIG.pack(grid, 1, 1, threads, 1, 1, 0, stream, attributes, 1)
        given = config, handle, parameters, None
    status = start(*given)
    if status == _NO_CONTEXT:
        _make_current(device)
        status = start(*given)
    if status:
        _check(status, "a launch")


def constant(data: bytes) -> int:
    """Copy data to new memory of the current device, for good, though a graph is captured.

    No allocator of an array library can do it: in a capture it gives memory that is the graph's,
    which other parts of the graph write to, and a copy would be made whenever the graph runs.
    """
    driver, address, stream = _driver(), ctypes.c_uint64(), ctypes.c_void_p()
    size = ctypes.c_size_t(len(data))
    with not_captured():
        _check(driver.cuMemAlloc_v2(ctypes.byref(address), size), "taking memory")
        _check(driver.cuStreamCreate(ctypes.byref(stream), 1), "making a stream")
        try:
            status = driver.cuMemcpyHtoDAsync_v2(address, ctypes.c_char_p(data), size, stream)
            _check(status, "a copy to the device")
            _check(driver.cuStreamSynchronize(stream), "a copy to the device")
        finally:
            driver.cuStreamDestroy_v2(stream)
    return address.value


@contextlib.contextmanager
def not_captured() -> Iterator[None]:
    """Let a thread do what a capture elsewhere has no part in."""
    driver, mode = _driver(), ctypes.c_int(2)  # CU_STREAM_CAPTURE_MODE_RELAXED
    exchange = driver.cuThreadExchangeStreamCaptureMode
    _check(exchange(ctypes.byref(mode)), "leaving the capture's mode")
    try:
        yield
    finally:
        _check(exchange(ctypes.byref(mode)), "returning to the capture's mode")


def compiler_version(major: int) -> tuple[int, int]:
    """Return the version of NVRTC."""
    first, second = ctypes.c_int(), ctypes.c_int()
    nvrtc = _nvrtc(major)
    nvrtc.nvrtcVersion(ctypes.byref(first), ctypes.byref(second))
    return first.value, second.value


def compile_source(
    source: str, options: Sequence[str], capability: tuple[int, int], major: int
) -> bytes:
    """Compile CUDA C++ with NVRTC for a device, whose compute capability is given.

    Args:
        source: The source, which includes nothing.
        options: What NVRTC is told besides the architecture.
        capability: Of the device.
        major: The version of CUDA whose NVRTC is wanted.
    """
    nvrtc = _nvrtc(major)
    number = capability[0] * 10 + capability[1]
    known = _architectures(nvrtc)
    # Machine code if the compiler knows the device; else PTX, which the driver compiles.
    exact = number in known or not known
    target = number if exact else max([x for x in known if x <= number], default=min(known))
    architecture = f"--gpu-architecture={'sm' if exact else 'compute'}_{target}"
    program = ctypes.c_void_p()
    text = source.encode()
    status = nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"agclip.cu", 0, None, None)
    _check_nvrtc(nvrtc, status, program)
    try:
        every = [architecture.encode(), *[option.encode() for option in options]]
        array = (ctypes.c_char_p * len(every))(*every)
        status = nvrtc.nvrtcCompileProgram(program, len(every), array)
        _check_nvrtc(nvrtc, status, program)
        kind = "CUBIN" if exact else "PTX"
        size = ctypes.c_size_t()
        status = getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
        _check_nvrtc(nvrtc, status, program)
        image = ctypes.create_string_buffer(size.value)
        _check_nvrtc(nvrtc, getattr(nvrtc, f"nvrtcGet{kind}")(program, image), program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return image.raw


def _check_nvrtc(nvrtc: Any, status: int, program: Any) -> None:
    if status:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(max(size.value, 1))
        nvrtc.nvrtcGetProgramLog(program, log)
        reason = nvrtc.nvrtcGetErrorString(status).decode()
        said = log.value.decode(errors="replace").strip()
        message = f"NVRTC failed: {reason}; {said}"
        raise DriverError(message)


def _architectures(nvrtc: Any) -> list[int]:
    count = ctypes.c_int()
    if nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count)):
        return []
    found = (ctypes.c_int * count.value)()
    nvrtc.nvrtcGetSupportedArchs(found)
    return list(found)


@functools.cache
def _nvrtc(major: int) -> Any:
    library = _first(f"NVRTC of CUDA {major}", _names(major))
    _load_builtins(library)
    return library


def _load_builtins(nvrtc: Any) -> None:
    """Load the compiler's other half from where it lies.

    That of CUDA 13.0 in Python's packages (nvidia-cuda-nvrtc 13.0.88) looks for it nowhere near.
    """
    address = ctypes.cast(nvrtc.nvrtcVersion, ctypes.c_void_p).value or 0
    folder = _folder_of(address)
    for path in sorted(folder.glob("libnvrtc-builtins.so.*")) if folder else []:
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(path))


def _folder_of(address: int) -> Path | None:
    """Return where the library that holds an address in this process was loaded from."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split(maxsplit=5)
        low, _, high = fields[0].partition("-")
        if len(fields) == 6 and int(low, 16) <= address < int(high, 16):
            return Path(fields[5]).parent
    return None


def _names(major: int) -> Iterator[str]:
    """Yield what NVRTC may be called: what is loaded already, or lies among Python's packages."""
    if sys.platform == "win32":
        yield f"nvrtc64_{major}0_0.dll"
        return
    yield f"libnvrtc.so.{major}"
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(root).glob(f"*/lib/libnvrtc.so.{major}")):
            yield str(path)
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        if os.environ.get(variable):
            yield str(Path(os.environ[variable], "lib64", f"libnvrtc.so.{major}"))
    yield f"/usr/local/cuda/lib64/libnvrtc.so.{major}"
    yield "libnvrtc.so"
