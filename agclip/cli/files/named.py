"""The files of arrays that a user names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from agclip.cli.command import FAILED, USAGE, CommandError
from agclip.cli.command.output import why
from agclip.cli.files.measure import is_measured
from agclip.cli.files.readers import (
    SUFFIXES,
    FileError,
    Leaf,
    MissingError,
    Source,
    open_file,
    suffix_of,
)

_SCALES_AND_BITS = ("float4", "float6", "float8_e8m0fnu")
"""Dtypes of quantised weights, whose elements are no numbers by themselves: none are gradients."""

_NO_GRADIENTS = ("bool", "bytes", "datetime64", "int", "str", "timedelta64", "uint")
"""How dtypes begin of arrays that nobody takes for gradients; "str" is not "structured"."""


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """An open file of arrays, and what the user called it.

    Attributes:
        path: The file.
        argument: The argument that named it, for the messages.
        source: The file as its format reads it.
    """

    path: Path
    argument: str
    source: Source

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The arrays of the file in its own order."""
        return self.source.leaves

    def read(self, index: int) -> Any:
        """Return one leaf as an array of the default backend.

        Raises:
            CommandError: The file is damaged.
        """
        with _explained(self.path, self.argument):
            return self.source.read(index)

    def write(self, file: IO[bytes], leaf: Callable[[int], Any]) -> None:
        """Write a copy of the file with other numbers; see `Source.write`.

        Raises:
            CommandError: The file is damaged.
            OSError: The new file cannot be written.
        """
        try:
            self.source.write(file, leaf)
        except FileError as error:
            raise _refusal(self.path, self.argument, error) from error


def passed_over(leaves: Sequence[Leaf]) -> tuple[list[Leaf], list[Leaf]]:
    """Return the leaves without a norm: those that are no gradients, and those that may be."""
    without = [leaf for leaf in leaves if not is_measured(leaf.dtype)]
    plain = [leaf for leaf in without if _is_plain(leaf.dtype)]
    return plain, [leaf for leaf in without if leaf not in plain]


def _is_plain(dtype: str) -> bool:
    return dtype.startswith(_NO_GRADIENTS) and not dtype.startswith("structured")


@contextmanager
def opened(path: Path, argument: str) -> Iterator[ArrayFile]:
    """Open a file of arrays for the time of a block.

    Args:
        path: The file.
        argument: What the user called it, for the messages.

    Yields:
        The open file.

    Raises:
        CommandError: There is no such file, its name says no format that can be read, or it is
            damaged.
    """
    require_file(path, argument)
    with _explained(path, argument):
        source = open_file(path)
    with source:
        _check_dtypes(source.leaves, argument)
        yield ArrayFile(path, argument, source)


def _check_dtypes(leaves: Sequence[Leaf], argument: str) -> None:
    """Refuse floating-point numbers that would have to be passed over."""
    for leaf in leaves:
        number = leaf.dtype.startswith(("float", "complex"))
        if number and not is_measured(leaf.dtype) and not leaf.dtype.startswith(_SCALES_AND_BITS):
            other = "complex128" if leaf.dtype.startswith("complex") else "float64"
            msg = (
                f"`{argument}` must hold dtypes that agclip clips; got {leaf.dtype} in "
                f"{leaf.name!r}. Convert it to {other}."
            )
            raise CommandError(msg)


@contextmanager
def _explained(path: Path, argument: str) -> Iterator[None]:
    """Turn what a format says of a file into an error of the command line."""
    try:
        yield
    except FileError as error:
        raise _refusal(path, argument, error) from error
    except OSError as error:
        msg = f"`{argument}` must be readable; got {str(path)!r}: {why(error)}."
        raise CommandError(msg) from error


def _refusal(path: Path, argument: str, error: FileError) -> CommandError:
    kind = suffix_of(path) or f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
    msg = f"`{argument}` must be a readable {kind} file; got {str(path)!r}: {error}."
    return CommandError(msg, FAILED if isinstance(error, MissingError) else USAGE)


def require_file(path: Path, argument: str) -> None:
    """Check that a file is there.

    Raises:
        CommandError: It is not, or is a folder.
    """
    try:
        if path.is_file():
            return
        found = "a folder" if path.is_dir() else "no file"
    except OSError as error:  # such as a name that is too long
        msg = f"`{argument}` must be a file; got {str(path)!r}: {why(error)}. Check the path."
        raise CommandError(msg, USAGE) from error
    msg = f"`{argument}` must be a file; got {str(path)!r}, where there is {found}. Check the path."
    raise CommandError(msg, USAGE)
