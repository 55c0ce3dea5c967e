"""The bytes of a log: what they are, and their text in lines of bounded length."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO

from agclip.cli.logs.readers._history import LogError

HEAD = 1 << 20
"""Bytes from the start that say what a log is."""
LINE = 1 << 24
"""Characters of the longest line that is read."""
DOCUMENT = 1 << 29
"""Bytes of the largest document that is read at once."""

_UNPACK = "unpack it first, or pipe it in: {} LOG | agclip suggest -"
_BINARY = {
    b"\x1f\x8b": "it is packed with gzip; " + _UNPACK.format("gunzip -c"),
    b"\xfd7zXZ": "it is packed with xz; " + _UNPACK.format("xz -dc"),
    b"\x28\xb5\x2f\xfd": "it is packed with zstd; " + _UNPACK.format("zstd -dc"),
    b"BZh": "it is packed with bzip2; " + _UNPACK.format("bunzip2 -c"),
    b"PK\x03\x04": "it is a ZIP archive, as .npz, .pt and .xlsx are, and no log; unpack it first",
    b"PAR1": "it is a Parquet table; write it as CSV first",
    b"SQLite format 3": "it is an SQLite database; write the table as CSV first",
    b"\x89HDF": "it is an HDF5 file; write the values as CSV first",
    b":W&B": "it is W&B's own record of a run; export the chart as CSV, or its history as JSON",
    b"\x93NUM": "it is an array (.npy), and no log; write the norms as text, one a line",
    b"version https://git-lfs": "it is a pointer of Git LFS, not the file; run: git lfs pull",
}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",  # what PowerShell writes
    codecs.BOM_UTF16_BE: "utf-16",
}


class Source:
    """A stream of bytes whose first ones can be looked at.

    Args:
        stream: What to read; it need not be able to go back.

    Raises:
        LogError: If it is empty, or no log but something that is known.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.head = stream.read(HEAD)
        self._stream = stream
        if not self.head:
            msg = "it is empty"
            raise LogError(msg)
        for start, what in _BINARY.items():
            if self.head.startswith(start):
                raise LogError(what)

    def start(self) -> str:
        """Return the text of the first bytes.

        Raises:
            LogError: If they are no text, or blank.
        """
        text = self.head.decode(self._encoding(), errors="replace")
        if "\0" in text[:1024]:
            msg = "it is no text, and no event file of TensorBoard"
            raise LogError(msg)
        if not text.strip() and len(self.head) < HEAD:
            msg = "it is empty"
            raise LogError(msg)
        return text

    def lines(self) -> Iterator[str]:
        """Yield the lines, each with its end unless the last has none; a long one comes empty."""
        text = io.TextIOWrapper(self.stream(), encoding=self._encoding(), errors="replace")
        try:
            while line := text.readline(LINE):
                if len(line) == LINE and not line.endswith("\n"):
                    while line and not line.endswith("\n"):
                        line = text.readline(LINE)
                    line = "\n"
                yield line
        finally:
            text.detach()

    def text(self) -> str:
        """Return the whole text.

        Raises:
            LogError: If there is too much of it.
        """
        with self.stream() as stream:
            data = stream.read(DOCUMENT + 1)
        if len(data) > DOCUMENT:
            most = f"{DOCUMENT >> 20} MiB"
            msg = f"it is one JSON document of more than {most}; write JSON lines instead"
            raise LogError(msg)
        return data.decode(self._encoding(), errors="replace")

    def stream(self) -> io.BufferedReader:
        """Return all bytes, from the first."""
        return io.BufferedReader(_Joined(self.head, self._stream), HEAD)

    def _encoding(self) -> str:
        return next((name for mark, name in _MARKS.items() if self.head.startswith(mark)), "utf-8")


class _Joined(io.RawIOBase):
    """Bytes that have been read already, and the rest of their stream."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)
