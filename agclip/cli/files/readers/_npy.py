"""`.npy`: one array without a name."""

from __future__ import annotations

import io
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from agclip.cli.files.readers._format import PIECE, FileError, Leaf, Source, judged, require_bytes

NAME = "array"
"""What the one array is called: the format has no names."""

_HEAD = 1 << 16
"""Bytes that a header may take; NumPy itself takes 10,000 for safe."""
_FIELDS = 3
"""Fields of a structured dtype that are named."""


def open_source(path: Path) -> Source:
    """Open a `.npy` file."""
    with path.open("rb") as file:
        return _Npy(path, read_header(file, NAME, path.stat().st_size))


class _Npy(Source):
    def __init__(self, path: Path, leaf: Leaf) -> None:
        self.leaves = (leaf,)
        self._path = path

    def _read(self, index: int) -> Any:
        with self._path.open("rb") as file:
            return read_array(file)

    def write(self, file: IO[bytes], leaf: Callable[[int], Any]) -> None:
        array = leaf(0)
        if array is not None:
            write_array(file, array)
            return
        with self._path.open("rb") as old:
            shutil.copyfileobj(old, file, PIECE)


def read_header(file: IO[bytes], name: str, length: int) -> Leaf:
    """Read what an array is, without its numbers.

    Args:
        file: The file, at the header.
        name: What the array is called.
        length: Bytes of header and numbers together.

    Raises:
        FileError: If the header makes no sense, or claims more numbers than there is room for.
    """
    head = io.BytesIO(file.read(_HEAD))
    with judged(f"the header of the array {name!r}"), warnings.catch_warnings():
        # Python and NumPy warn of headers that are only nearly right: they are judged here.
        warnings.simplefilter("ignore")
        shape, dtype = _parsed(head, name)
        leaf = Leaf(name, shape, _dtype_name(name, dtype))
    require_bytes(leaf, dtype.itemsize, length - head.tell())
    return leaf


def _parsed(head: io.BytesIO, name: str) -> tuple[tuple[int, ...], Any]:
    version = np.lib.format.read_magic(head)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(head)
    elif version in {(2, 0), (3, 0)}:
        # The third differs from the second in the encoding of the names of fields.
        shape, _, dtype = np.lib.format.read_array_header_2_0(head)
    else:
        msg = f"the array {name!r} is in version {version} of the format"
        raise FileError(msg)
    return tuple(map(int, shape)), dtype


def _dtype_name(name: str, dtype: Any) -> str:
    """Return the name of a dtype; refuse those in which NumPy's own files cannot keep numbers."""
    if dtype.hasobject:
        msg = f"the array {name!r} holds Python objects, which can run code when they are read"
        raise FileError(msg)
    if dtype.names is not None:
        fields = [f"{field} {dtype[field]}" for field in dtype.names[:_FIELDS]]
        fields += ["…"] * (len(dtype.names) > _FIELDS)
        return f"structured ({', '.join(fields)})"
    if dtype.kind == "V":
        msg = (
            f"the array {name!r} has the dtype {dtype.str}, bytes without a meaning: NumPy's files "
            f"lose the name of bfloat16 and float8. Save such arrays as .safetensors"
        )
        raise FileError(msg)
    return str(dtype.name)


def read_array(file: IO[bytes]) -> Any:
    """Read a whole array."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.read_array(file, allow_pickle=False)


def write_array(file: IO[bytes], array: Any) -> None:
    """Write a whole array."""
    np.lib.format.write_array(file, array, allow_pickle=False)
