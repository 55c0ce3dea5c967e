"""`.npz`: a zip archive of `.npy` files, read and written member by member."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from agclip.cli.files.readers._format import PIECE, FileError, Leaf, Source, judged
from agclip.cli.files.readers._npy import read_array, read_header, write_array
from agclip.cli.files.readers._zip import open_archive

_MEMBER = ".npy"
_ENCRYPTED = 1
"""The flag of a member that a password is needed for."""


def open_source(path: Path) -> Source:
    """Open a `.npz` file."""
    return _Npz(open_archive(path))


class _Npz(Source):
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = archive.infolist()
        try:
            self.leaves = tuple(self._header(member) for member in self._members)
        except BaseException:
            archive.close()
            raise

    def _header(self, member: zipfile.ZipInfo) -> Leaf:
        if not member.filename.endswith(_MEMBER):
            msg = f"it holds {member.filename!r}, which is no array"
            raise FileError(msg)
        if member.flag_bits & _ENCRYPTED:
            msg = f"{member.filename!r} in it is encrypted"
            raise FileError(msg)
        with judged(f"{member.filename!r} in it"), self._archive.open(member) as file:
            return read_header(file, member.filename.removesuffix(_MEMBER), member.file_size)

    def _read(self, index: int) -> Any:
        member = self._members[index]
        with judged(f"{member.filename!r} in it"), self._archive.open(member) as file:
            array = read_array(file)
            # Its checksum is compared at its end.
            while file.read(PIECE):
                pass
            return array

    def write(self, file: IO[bytes], leaf: Callable[[int], Any]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for index, member in enumerate(self._members):
                copy = zipfile.ZipInfo(member.filename, member.date_time)
                copy.compress_type = member.compress_type
                copy.external_attr = member.external_attr
                # The array first: an archive has one member open at a time.
                array = leaf(index)
                with archive.open(copy, "w", force_zip64=True) as new:
                    if array is None:
                        self._copy(member, new)
                    else:
                        write_array(new, array)

    def _copy(self, member: zipfile.ZipInfo, new: IO[bytes]) -> None:
        with self._archive.open(member) as old:
            shutil.copyfileobj(old, new, PIECE)

    def close(self) -> None:
        self._archive.close()
