"""Zip archives whose members cannot claim more than there is."""

from __future__ import annotations

import zipfile
from pathlib import Path

from agclip.cli.files.readers._format import FileError, judged

_EXPANSION = 1032
"""Bytes that deflate makes of one at most."""


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open an archive, and hold the sizes that its members claim against that of the file.

    Raises:
        FileError: If it is damaged, or if a member claims what the file has no room for.
        OSError: If it cannot be read.
    """
    try:
        with judged("its directory"):
            archive = zipfile.ZipFile(path)
    except FileError as error:
        if isinstance(error.__cause__, zipfile.BadZipFile):
            msg = f"it is no zip archive, or is cut off ({error.__cause__})"
            raise FileError(msg) from error
        raise
    try:
        _check_sizes(archive.infolist(), path.stat().st_size)
    except BaseException:
        archive.close()
        raise
    return archive


def _check_sizes(members: list[zipfile.ZipInfo], available: int) -> None:
    for member in members:
        available -= member.compress_size
        expansion = 1 if member.compress_type == zipfile.ZIP_STORED else _EXPANSION
        if available < 0 or member.file_size > expansion * member.compress_size:
            msg = f"{member.filename!r} in it claims more bytes than the file has"
            raise FileError(msg)
