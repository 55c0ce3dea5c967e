"""`.safetensors`: a header, then the numbers.

A copy has the shapes and dtypes of its original, so its header is the original's byte for byte: the
metadata, the order and the alignment stay. The header is judged by the library of the format.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from agclip.cli.files.readers._format import (
    PIECE,
    FileError,
    Leaf,
    MissingError,
    Source,
    dtype_of,
    judged,
    reason,
)

_DTYPES: dict[str, str] = {
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
_METADATA = "__metadata__"
_LENGTH = 8
"""Bytes before the header that say how long it is."""


def open_source(path: Path) -> Source:
    """Open a `.safetensors` file."""
    _judge(path)
    with path.open("rb") as file, judged("its header"):
        length = file.read(_LENGTH)
        header = file.read(int.from_bytes(length, "little"))
        return _Safetensors(path, length + header)


def _judge(path: Path) -> None:
    """Have the library check the header, the offsets and the length of the file."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        msg = 'safetensors is needed to read it: pip install "agclip[safetensors]"'
        raise MissingError(msg) from error
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        msg = f"it is no safetensors file, or is cut off ({reason(error)})"
        raise FileError(msg) from error


def _name_of(dtype: str) -> str:
    return _DTYPES.get(dtype, dtype)


class _Safetensors(Source):
    def __init__(self, path: Path, head: bytes) -> None:
        self._path = path
        self._head = head
        entries = json.loads(head[_LENGTH:])
        entries.pop(_METADATA, None)
        self.leaves = tuple(
            Leaf(name, tuple(entry["shape"]), _name_of(entry["dtype"]))
            for name, entry in entries.items()
        )
        self._spans = [entry["data_offsets"] for entry in entries.values()]

    def _read(self, index: int) -> Any:
        leaf = self.leaves[index]
        dtype = dtype_of(leaf.dtype).newbyteorder("<")
        begin = len(self._head) + self._spans[index][0]
        flat = np.fromfile(self._path, dtype, count=leaf.size, offset=begin)
        if flat.size < leaf.size:
            msg = f"the tensor {leaf.name!r} is cut off"
            raise FileError(msg)
        return flat.reshape(leaf.shape)

    def write(self, file: IO[bytes], leaf: Callable[[int], Any]) -> None:
        file.write(self._head)
        for index in sorted(range(len(self.leaves)), key=self._spans.__getitem__):
            array = leaf(index)
            if array is None:
                self._copy(index, file)
                continue
            little = array.dtype.newbyteorder("<")
            flat = np.ascontiguousarray(array, dtype=little).reshape(-1)
            file.write(flat.view(np.uint8).data)

    def _copy(self, index: int, file: IO[bytes]) -> None:
        begin, end = self._spans[index]
        with self._path.open("rb") as old:
            old.seek(len(self._head) + begin)
            for start in range(begin, end, PIECE):
                piece = old.read(min(PIECE, end - start))
                if len(piece) < min(PIECE, end - start):
                    msg = f"the tensor {self.leaves[index].name!r} is cut off"
                    raise FileError(msg)
                file.write(piece)
