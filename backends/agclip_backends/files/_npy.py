"""`.npy`: one array without a name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from agclip_backends.files._format import FileError, Leaf, Source, check_dtype

NAME = "array"
"""What the one array is called: the format has no names."""


def open_source(path: Path) -> Source:
    """Open a `.npy` file."""
    with path.open("rb") as file:
        return _Npy(path, read_header(file, NAME))


class _Npy(Source):
    def __init__(self, path: Path, leaf: Leaf) -> None:
        self.leaves = (leaf,)
        self._path = path

    def read(self, index: int) -> Any:
        with self._path.open("rb") as file:
            return read_array(file, self.leaves[index].name)

    def write(self, path: Path, leaf: Callable[[int], Any]) -> None:
        with path.open("wb") as file:
            np.lib.format.write_array(file, leaf(0), allow_pickle=False)


def read_header(file: IO[bytes], name: str) -> Leaf:
    """Read what an array is, without its numbers."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            msg = f"the array {name!r} is in version {version} of the format"
            raise FileError(msg)
        shape, _, dtype = readers[version](file)
    except (ValueError, EOFError) as error:
        msg = f"the header of the array {name!r} is damaged ({_first_line(error)})"
        raise FileError(msg) from error
    check_dtype(name, dtype)
    return Leaf(name, shape, dtype.name)


def read_array(file: IO[bytes], name: str) -> Any:
    """Read a whole array."""
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        msg = f"the array {name!r} is damaged ({_first_line(error)})"
        raise FileError(msg) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
