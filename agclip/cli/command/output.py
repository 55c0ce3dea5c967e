"""Files that are put in place whole, or not at all."""

from __future__ import annotations

import io
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from agclip.cli.command import USAGE, CommandError

_PERMISSIONS = 0o777


def require_new(path: Path, *, force: bool) -> None:
    """Refuse a place where something is already, unless it may be replaced."""
    try:
        there = path.exists() or path.is_symlink()
    except OSError:
        return  # `require_writable` says what is wrong with such a name
    if there and not force:
        msg = f"`--output` must be a new file; got {str(path)!r}. Name another, or add --force."
        raise CommandError(msg, USAGE)


def require_writable(path: Path, example: str) -> None:
    """Check that a file can be put in its place, by writing one beside it.

    Args:
        path: The place.
        example: What a name looks like, for the message.

    Raises:
        CommandError: It cannot.
    """
    try:
        if path.exists() and not path.is_file():
            msg = "it is a folder" if path.is_dir() else "it is a device or a pipe"
            raise IsADirectoryError(msg)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        msg = f"`--output` must be a file that can be written; got {str(path)!r}: {why(error)}. "
        raise CommandError(msg + f"Name another with --output {example}.") from error


@contextmanager
def replacing(path: Path, what: str, example: str, like: Path | None = None) -> Iterator[IO[bytes]]:
    """Lend a temporary file that takes the place of another once all of it is on the disk.

    Args:
        path: The place.
        what: What the file is, for the message.
        example: What a name looks like, for the message.
        like: A file whose permissions the new one gets; None for those that new files get.

    Yields:
        The file to write to. If anything fails it is gone, and the old one is as it was.

    Raises:
        CommandError: The file could not be written.
    """
    # Beside its place, since a rename across file systems is a copy that can stop half-way. The
    # name cannot be foreseen, and nothing is opened that is there already: who may write in the
    # folder too cannot have a link of theirs followed.
    temporary = path.with_name(f".agclip-{secrets.token_hex(8)}.tmp")
    file: _Whole | None = None
    try:
        mode = 0o666 if like is None else like.stat().st_mode & _PERMISSIONS
        with _Whole(_created(temporary, mode)) as file:
            yield cast("IO[bytes]", file)  # all of it but a descriptor
            if like is not None and hasattr(os, "fchmod"):
                os.fchmod(file.descriptor, mode)  # what the umask took away
            file.complete()
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        # A library may tell what happened to it in words of its own.
        first = (file and file.error) or error
        msg = (
            f"the {what} {str(path)!r} could not be written: {why(first)}. "
            f"Make room or name another place with --output {example}."
        )
        raise CommandError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)


def _created(path: Path, mode: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, mode)


def _sync_folder(folder: Path) -> None:
    """Have the system remember the new name, where folders can be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Whole(io.BufferedIOBase):
    """A file that knows how long it has to be.

    It has no `fileno`, so that no library writes past it, as NumPy does, which then loses the error
    of a disk that is full.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._file = open(descriptor, "wb")  # noqa: SIM115 - a descriptor; see `close`
        self._length = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of some bytes."""
        try:
            written = self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        self._length = max(self._length, self._file.tell())
        return written

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def seekable(self) -> bool:
        """Say that a place in it can be chosen."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, as a zip archive does to write a header anew."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def complete(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            OSError: If any of it is not.
        """
        if self.error is not None:
            raise self.error
        self._file.flush()
        os.fsync(self.descriptor)
        length = os.fstat(self.descriptor).st_size
        if length != self._length:
            msg = f"{length} of {self._length} bytes arrived"
            raise OSError(msg)

    def close(self) -> None:
        """Close the file; what could not be written is lost by now, and has been told."""
        with suppress(OSError):
            self._file.close()


def why(error: OSError) -> str:
    """Return the reason alone, without the number and the file."""
    return error.strerror or str(error)
