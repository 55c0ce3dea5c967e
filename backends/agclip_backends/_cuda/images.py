"""Compiled kernels on disk: NVRTC takes a second for what a file gives in a millisecond.

An image is kept in the user's cache directory under a name made of everything it depends on. What
cannot be read, is damaged or cannot be written counts as not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agclip_backends._cuda import driver

VARIABLE = "AGCLIP_CACHE"
"""Names the directory of compiled kernels; "none" keeps nothing on disk."""

_DIGEST = hashlib.sha256().digest_size


def compiled(source: str, options: Sequence[str], capability: tuple[int, int], major: int) -> bytes:
    """Return what `driver.compile_source` does, from disk if it is there."""
    path = _path(source, options, capability, major)
    image = None if path is None else _read(path)
    if image is None:
        image = driver.compile_source(source, options, capability, major)
        if path is not None:
            _write(path, image)
    return image


def _path(
    source: str, options: Sequence[str], capability: tuple[int, int], major: int
) -> Path | None:
    folder = _folder()
    if folder is None:
        return None
    # The driver compiles what a compiler that is too old for a device leaves to it.
    about = (source, *options, capability, driver.compiler_version(major))
    return folder / f"{hashlib.sha256(repr(about).encode()).hexdigest()}.bin"


def _folder() -> Path | None:
    named = os.environ.get(VARIABLE, "").strip()
    if named.lower() == "none":
        return None
    try:
        return Path(named).expanduser() / "cuda" if named else _users() / "agclip" / "cuda"
    except RuntimeError:  # there is no home
        return None


def _users() -> Path:
    """Return the user's cache directory."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, image = data[:_DIGEST], data[_DIGEST:]
    return image if hashlib.sha256(image).digest() == digest else None


def _write(path: Path, image: bytes) -> None:
    """Write a file that is whole whenever it is there: it takes its name last."""
    temporary = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(image).digest() + image)
        Path(temporary).replace(path)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
