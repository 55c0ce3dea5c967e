"""What a file is by its content: its name may say another thing, or nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path

HEAD = 512
"""Bytes at the start of a file that are looked at."""

_LEGACY_PT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number that PyTorch's files began with before 1.6, as a pickle."""

_LONGEST_HEADER = 100_000_000
"""Bytes that a header of .safetensors may have."""

_OTHERS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file: run `git lfs pull`"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "compressed by gzip: unpack it"),
    (b"\xfd7zXZ\x00", "compressed by xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard: unpack it"),
    (b"BZh", "compressed by bzip2: unpack it"),
    (b"<!DOCTYPE", "a web page, not the file: download it anew"),
    (b"<!doctype", "a web page, not the file: download it anew"),
    (b"<html", "a web page, not the file: download it anew"),
    *((b"\x80" + bytes([n]), "a pickle, which could run code") for n in range(2, 6)),
)
_TAR = (b"ustar", 257)


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(HEAD)


def format_of(path: Path, head: bytes) -> str | None:
    """Return the suffix of the format that a file has by its content; None if that is unknown."""
    if head.startswith(b"\x93NUMPY"):
        return ".npy"
    if head.startswith(_LEGACY_PT):
        return ".pt"
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length <= _LONGEST_HEADER:
        return ".safetensors"
    return None


def _archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # noqa: BLE001 - a damaged archive is for its format to explain
        return None
    if any(name.endswith("/data.pkl") for name in names):
        return ".pt"
    return ".npz" if any(name.endswith(".npy") for name in names) else None


def what_is(head: bytes) -> str | None:
    """Say what a file is that is of no format read here; None if that is unknown."""
    if not head:
        return "empty"
    for start, words in _OTHERS:
        if head.startswith(start):
            return words
    mark, place = _TAR
    return "a tar archive: unpack it" if head[place:].startswith(mark) else None
