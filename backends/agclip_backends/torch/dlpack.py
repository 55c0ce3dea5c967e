"""A list of tensors described by one call of compiled code, through DLPack's functions of C.

An attribute of a tensor takes 50 nanoseconds to read from Python, and it takes seven of them to
tell whether a tensor is plain memory (bench/test_dispatch.py). DLPack has a function for a library
to describe a tensor to C code (`DLPackExchangeAPI`, which PyTorch 2.13 has): it says all but what
autograd knows.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from agclip.adapters import Kind, kind_named
from agclip_backends._host import tables

_ATTRIBUTE, _CAPSULE = "__dlpack_c_exchange_api__", b"dlpack_exchange_api"
_MAJOR = 1
"""The version of DLPack whose layout is read here."""
_VERSION, _DESCRIBE, _WORDS = 0, 5, 6
"""Of the words of a `DLPackExchangeAPI`: which has the version, and which the function."""

CPU, _CUDA = 1, 2
"""Kinds of devices; the number of one stands in the upper half of a word."""
_FLOAT, _BFLOAT, _COMPLEX = 2, 4, 5
_DTYPES = {
    "float16": (_FLOAT, 16),
    "bfloat16": (_BFLOAT, 16),
    "float32": (_FLOAT, 32),
    "float64": (_FLOAT, 64),
    "complex64": (_COMPLEX, 64),
    "complex128": (_COMPLEX, 128),
}
"""The codes of dtypes, and their bits."""
_KINDS = tuple(map(kind_named, _DTYPES))


def table_of(
    leaves: Sequence[torch.Tensor], kernels: Any, *, written: bool, device: int = CPU
) -> tuple[Any, int]:
    """Return the table of tensors, and what `kernels.read_tensors` says of them: -1 for no table.

    It sees zeros without memory, but not that PyTorch negates or conjugates what memory holds.
    """
    functions = _functions()
    if functions is None or not _reads_tensors(kernels):
        return None, -1
    return _read(leaves, kernels, functions, device, written=written)


def device_of(leaf: torch.Tensor) -> int:
    """Return the device of a tensor on the CPU, or of CUDA, as DLPack describes it."""
    return CPU if leaf.is_cpu else _CUDA | leaf.get_device() << 32


def _read(
    leaves: Sequence[torch.Tensor], kernels: Any, functions: Any, device: int, *, written: bool
) -> tuple[Any, int]:
    table = np.empty((4, len(leaves) + 1), np.int64)
    listed = leaves if type(leaves) is list else list(leaves)
    found = kernels.read_tensors(
        id(listed), object.__basicsize__, functions, _formats(), device, written, table
    )
    return table, found


@functools.cache
def kinds_of(found: int) -> frozenset[Kind]:
    """Return the kinds of dtype that occur."""
    return frozenset(kind for i, kind in enumerate(_KINDS) if found >> i & 1)


@functools.cache
def _formats() -> Any:
    """Return triples: a dtype as DLPack spells it, its code, and the real numbers in an element."""
    rows = [
        (code | bits << 8 | 1 << 16, tables.CODES[name], 2 if code == _COMPLEX else 1)
        for name, (code, bits) in _DTYPES.items()
    ]
    return np.array(rows, np.int64)


@functools.cache
def _functions() -> Any:
    """Return the addresses of PyTorch's function and of the one that forgets an error.

    None where PyTorch has none, or DLPack's layout is another.
    """
    capsule = getattr(torch.Tensor, _ATTRIBUTE, None)
    if capsule is None:
        return None
    python = ctypes.pythonapi
    address = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", python)
    )(capsule, _CAPSULE)
    words = (ctypes.c_int64 * _WORDS).from_address(address or 0)
    if words[_VERSION] & 0xFFFFFFFF != _MAJOR or not words[_DESCRIBE]:
        return None
    forget = ctypes.cast(python.PyErr_Clear, ctypes.c_void_p).value
    return np.array([words[_DESCRIBE], forget], np.int64)


@functools.cache
def _reads_tensors(kernels: Any) -> bool:
    """Tell whether this build of PyTorch describes its tensors as the kernels expect."""
    # Not on the device that `torch.set_default_device` names.
    sample = torch.ones((2, 3), dtype=torch.float32, device="cpu")
    table, found = _read([sample], kernels, _functions(), CPU, written=True)
    wanted = [sample.data_ptr(), sample.numel(), tables.CODES["float32"]]
    return (
        kinds_of(found) == {kind_named("float32")} and table[: kernels.FIRST, 0].tolist() == wanted
    )
