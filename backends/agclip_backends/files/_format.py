"""What every format of file offers, and how it says that a file is no good."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np


class FileError(Exception):
    """A file that cannot be read or written as asked; the message is a clause without a dot."""


class Leaf(NamedTuple):
    """One array of a file, not yet read."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """The name of the dtype, such as "float32" or "bfloat16"."""

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


class Source(ABC):
    """An open file of named arrays.

    Attributes:
        leaves: The arrays of the file in its own order.
    """

    leaves: tuple[Leaf, ...]

    @abstractmethod
    def read(self, index: int) -> Any:
        """Return one leaf as a NumPy array of its own.

        Args:
            index: Its place in `leaves`.

        Raises:
            FileError: If the file ends too early or is damaged.
        """

    @abstractmethod
    def write(self, path: Path, leaf: Callable[[int], Any]) -> None:
        """Write a copy of the file with other numbers.

        Args:
            path: The new file; one that is there is overwritten.
            leaf: `(index)` → the NumPy array that takes the place of a leaf, of the same shape and
                dtype. Called once for every leaf.

        Raises:
            FileError: If the file that is copied is damaged.
            OSError: If the new file cannot be written.
        """

    def close(self) -> None:  # noqa: B027 - nothing is open where a format reads a file at once
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def dtype_of(name: str) -> Any:
    """Return the NumPy dtype of a name; bfloat16 and float8 come from `ml_dtypes`.

    Raises:
        FileError: If `ml_dtypes` is not installed, or knows no such dtype.
    """
    with suppress(TypeError):
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        msg = f'it holds {name}, for which ml_dtypes is needed: pip install "agclip[safetensors]"'
        raise FileError(msg) from error
    found = getattr(ml_dtypes, name, None)
    if found is None:
        msg = f"it holds {name}, which cannot be read"
        raise FileError(msg)
    return np.dtype(found)


def check_dtype(name: str, dtype: Any) -> None:
    """Refuse dtypes in which NumPy's own files cannot keep numbers.

    Raises:
        FileError: If the dtype is that of Python objects, or raw bytes.
    """
    if dtype.hasobject:
        msg = f"the array {name!r} holds Python objects, which can run code when they are read"
        raise FileError(msg)
    if dtype.kind == "V":
        msg = (
            f"the array {name!r} has the dtype {dtype.str}, bytes without a meaning: NumPy's files "
            f"lose the name of bfloat16 and float8. Save such arrays as .safetensors"
        )
        raise FileError(msg)
