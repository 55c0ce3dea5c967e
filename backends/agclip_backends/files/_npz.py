"""`.npz`: a zip archive of `.npy` files, read and written member by member."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from agclip_backends.files._format import FileError, Leaf, Source
from agclip_backends.files._npy import read_array, read_header

_MEMBER = ".npy"


def open_source(path: Path) -> Source:
    """Open a `.npz` file."""
    try:
        return _Npz(zipfile.ZipFile(path))
    except zipfile.BadZipFile as error:
        msg = f"it is no zip archive, or is cut off ({error})"
        raise FileError(msg) from error


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
        with self._open(member) as file:
            return read_header(file, member.filename.removesuffix(_MEMBER))

    @contextmanager
    def _open(self, member: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
        try:
            with self._archive.open(member) as file:
                yield file
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            msg = f"{member.filename!r} in it is damaged ({error})"
            raise FileError(msg) from error
        except RuntimeError as error:  # what zipfile raises for a password
            msg = f"{member.filename!r} in it cannot be read ({error})"
            raise FileError(msg) from error

    def read(self, index: int) -> Any:
        with self._open(self._members[index]) as file:
            return read_array(file, self.leaves[index].name)

    def write(self, path: Path, leaf: Callable[[int], Any]) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for index, member in enumerate(self._members):
                copy = zipfile.ZipInfo(member.filename, member.date_time)
                copy.compress_type = member.compress_type
                copy.external_attr = member.external_attr
                # The array first: an archive has one member open at a time.
                array = leaf(index)
                with archive.open(copy, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)

    def close(self) -> None:
        self._archive.close()
