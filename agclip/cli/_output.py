"""Files that are put in place whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agclip.cli._command import CommandError


def require_writable(path: Path, example: str) -> None:
    """Check that a file can be put in its place, by writing one beside it.

    Args:
        path: The place.
        example: What a name looks like, for the message.

    Raises:
        CommandError: It cannot.
    """
    try:
        if path.is_dir():
            msg = "it is a folder"
            raise IsADirectoryError(msg)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        msg = f"`--output` must be a file that can be written; got {str(path)!r}: {why(error)}. "
        raise CommandError(msg + f"Name another with --output {example}.") from error


@contextmanager
def replacing(path: Path, what: str, example: str) -> Iterator[Path]:
    """Lend a temporary file that takes the place of another once it is complete.

    Args:
        path: The place.
        what: What the file is, for the message.
        example: What a name looks like, for the message.

    Yields:
        The path to write to. It is gone afterwards, whatever happens.

    Raises:
        CommandError: The file could not be written.
    """
    # Beside its place, since a rename across file systems is a copy that can stop half-way.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        msg = (
            f"the {what} {str(path)!r} could not be written: {why(error)}. "
            f"Make room or name another place with --output {example}."
        )
        raise CommandError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)


def why(error: OSError) -> str:
    """Return the reason alone, without the number and the file."""
    return error.strerror or str(error)
