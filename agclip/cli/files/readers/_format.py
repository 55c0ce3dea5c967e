"""What every format of file offers, and how it says that a file is no good."""

from __future__ import annotations

import errno
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np

PIECE = 1 << 20
"""Bytes that are copied at a time."""

_REASON = 160
"""Characters of a library's complaint that are passed on."""


class FileError(Exception):
    """A file that cannot be read or written as asked; the message is a clause without a dot."""


class MissingError(FileError):
    """A file that may be right, but the library that reads it is not installed."""


class Leaf(NamedTuple):
    """One array of a file, not yet read."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """The name of the dtype, such as "float32" or "bfloat16"; for what has none, what it is."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Source(ABC):
    """An open file of named arrays.

    Attributes:
        leaves: The arrays of the file in its own order.
    """

    leaves: tuple[Leaf, ...]

    def read(self, index: int) -> Any:
        """Return one leaf as a NumPy array of its own.

        Args:
            index: Its place in `leaves`.

        Raises:
            FileError: If the file ends too early or is damaged.
            OSError: If it cannot be read.
        """
        with judged(f"the array {self.leaves[index].name!r}"):
            return self._read(index)

    @abstractmethod
    def _read(self, index: int) -> Any:
        """Return one leaf; any error but `FileError` and `OSError` says that it is damaged."""

    @abstractmethod
    def write(self, file: IO[bytes], leaf: Callable[[int], Any]) -> None:
        """Write a copy of the file with other numbers.

        Args:
            file: The new file, open and empty. It is written to by its methods alone.
            leaf: `(index)` → the NumPy array that takes the place of a leaf, of the same shape and
                dtype; None for a leaf that is copied as it stands. Called once for every leaf.

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


@contextmanager
def judged(what: str) -> Iterator[None]:
    """Take every complaint of a library about a file for what it is: the file is damaged.

    Libraries answer a header that makes no sense with whatever their code runs into.

    Args:
        what: What is read, for the message.

    Raises:
        FileError: If the block raised anything but a `FileError` or an error of the system.
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a place before the start of a file leads to
            raise
        raise FileError(_damaged(what, error)) from error
    except Exception as error:
        raise FileError(_damaged(what, error)) from error


def _damaged(what: str, error: Exception) -> str:
    words = reason(error)
    return f"{what} is damaged ({words})" if words else f"{what} is damaged"


def reason(error: Exception) -> str:
    """Return what an error says, in a line that is not long."""
    if isinstance(error, MemoryError):
        return "it claims more than there is memory for"
    first = " ".join(str(error).partition("\n")[0].split()).rstrip(".")
    return first if len(first) <= _REASON else first[:_REASON] + "…"


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
        raise MissingError(msg) from error
    found = getattr(ml_dtypes, name, None)
    if found is None:
        msg = f"it holds {name}, which cannot be read"
        raise FileError(msg)
    return np.dtype(found)


def require_bytes(leaf: Leaf, itemsize: int, available: int) -> None:
    """Refuse a leaf that claims more elements than the file has room for, before one is read.

    Args:
        leaf: The leaf.
        itemsize: Bytes of an entry.
        available: Bytes that the file has for it.

    Raises:
        FileError: If they are too few, or if a dimension is negative.
    """
    if min(leaf.shape, default=0) < 0:
        msg = f"the array {leaf.name!r} claims the shape {leaf.shape}"
        raise FileError(msg)
    # Elements without width would let a header of a few bytes claim any number of them.
    if leaf.size * max(itemsize, 1) > available:
        msg = (
            f"the array {leaf.name!r} claims {leaf.size} elements of {itemsize} bytes, and the "
            f"file has {available} bytes for them"
        )
        raise FileError(msg)
