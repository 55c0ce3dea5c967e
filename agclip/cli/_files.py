"""The files of arrays that a user names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agclip.cli._command import USAGE, CommandError
from agclip.cli._measure import is_measured
from agclip.cli._output import why
from agclip_backends.files import SUFFIXES, FileError, Leaf, Source, open_file


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

    def write(self, path: Path, leaf: Callable[[int], Any]) -> None:
        """Write a copy of the file with other numbers; see `Source.write`."""
        self.source.write(path, leaf)


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
    if path.suffix.lower() not in SUFFIXES:
        msg = (
            f"`{argument}` must be a file that ends in {', '.join(SUFFIXES[:-1])} or "
            f"{SUFFIXES[-1]}; got {str(path)!r}. Convert it to one of these."
        )
        raise CommandError(msg, USAGE)
    require_file(path, argument)
    with _explained(path, argument):
        source = open_file(path)
    with source:
        _check_dtypes(source.leaves, argument)
        yield ArrayFile(path, argument, source)


def _check_dtypes(leaves: Sequence[Leaf], argument: str) -> None:
    """Refuse floating-point numbers that would have to be passed over."""
    for leaf in leaves:
        if not is_measured(leaf.dtype) and leaf.dtype.startswith(("float", "complex")):
            msg = (
                f"`{argument}` must hold dtypes that agclip clips; got {leaf.dtype} in "
                f"{leaf.name!r}. Convert it to float64."
            )
            raise CommandError(msg)


@contextmanager
def _explained(path: Path, argument: str) -> Iterator[None]:
    """Turn what a format says of a file into an error of the command line."""
    try:
        yield
    except FileError as error:
        msg = f"`{argument}` must be a readable {path.suffix} file; got {str(path)!r}: {error}."
        raise CommandError(msg) from error
    except OSError as error:
        msg = f"`{argument}` must be readable; got {str(path)!r}: {why(error)}."
        raise CommandError(msg) from error


def require_file(path: Path, argument: str) -> None:
    """Check that a file is there.

    Raises:
        CommandError: It is not, or is a folder.
    """
    if path.is_file():
        return
    found = "a folder" if path.is_dir() else "no file"
    msg = f"`{argument}` must be a file; got {str(path)!r}, where there is {found}. Check the path."
    raise CommandError(msg, USAGE)
