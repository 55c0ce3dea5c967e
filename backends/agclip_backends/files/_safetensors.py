"""`.safetensors`: a header, then the numbers.

A copy has the shapes and dtypes of its original, so its header is the original's byte for byte: the
metadata, the order and the alignment stay. The header is judged by the library of the format.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agclip_backends.files._format import FileError, Leaf, Source, dtype_of

_DTYPES = {
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
_METADATA = "__metadata__"
_LENGTH = 8
"""Bytes before the header that say how long it is."""


def open_source(path: Path) -> Source:
    """Open a `.safetensors` file."""
    _judge(path)
    with path.open("rb") as file:
        length = file.read(_LENGTH)
        header = file.read(int.from_bytes(length, "little"))
    return _Safetensors(path, length + header)


def _judge(path: Path) -> None:
    """Have the library check the header, the offsets and the length of the file."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        msg = 'safetensors is needed to read it: pip install "agclip[safetensors]"'
        raise FileError(msg) from error
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        msg = f"it is no safetensors file, or is cut off ({error})"
        raise FileError(msg) from error


class _Safetensors(Source):
    def __init__(self, path: Path, head: bytes) -> None:
        self._path = path
        self._head = head
        entries = json.loads(head[_LENGTH:])
        entries.pop(_METADATA, None)
        self.leaves = tuple(_leaf(name, entry) for name, entry in entries.items())
        self._begins = [entry["data_offsets"][0] for entry in entries.values()]

    def read(self, index: int) -> Any:
        leaf = self.leaves[index]
        dtype = dtype_of(leaf.dtype).newbyteorder("<")
        begin = len(self._head) + self._begins[index]
        flat = np.fromfile(self._path, dtype, count=leaf.size, offset=begin)
        if flat.size < leaf.size:
            msg = f"the tensor {leaf.name!r} is cut off"
            raise FileError(msg)
        return flat.reshape(leaf.shape)

    def write(self, path: Path, leaf: Callable[[int], Any]) -> None:
        with path.open("wb") as file:
            file.write(self._head)
            for index in sorted(range(len(self.leaves)), key=self._begins.__getitem__):
                array = leaf(index)
                little = array.dtype.newbyteorder("<")
                flat = np.ascontiguousarray(array, dtype=little).reshape(-1)
                file.write(flat.view(np.uint8).data)


def _leaf(name: str, entry: dict[str, Any]) -> Leaf:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        msg = f"the tensor {name!r} has the dtype {entry['dtype']}, which cannot be read"
        raise FileError(msg)
    return Leaf(name, tuple(entry["shape"]), dtype)
