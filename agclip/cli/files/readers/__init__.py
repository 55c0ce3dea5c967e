"""Files of named arrays, read and written leaf by leaf: .npz, .npy, .safetensors and .pt.

The command line reads its gradients through here. Whatever the format, leaves come as NumPy arrays,
in bfloat16 and float8 as dtypes of `ml_dtypes`; a copy that is written has the order, the names,
the dtypes and the metadata of the file it was made from. A library is imported when a file asks for
it.
"""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path

from agclip.cli.files.readers._format import FileError, Leaf, MissingError, Source, judged
from agclip.cli.files.readers._sniff import format_of, head_of, what_is

__all__ = ["SUFFIXES", "FileError", "Leaf", "MissingError", "Source", "open_file", "suffix_of"]

_MODULES = {
    ".npz": "_npz",
    ".npy": "_npy",
    ".safetensors": "_safetensors",
    ".pt": "_pt",
    ".pth": "_pt",
    ".pth.tar": "_pt",
    ".ckpt": "_pt",
    ".bin": "_pt",
}

SUFFIXES = tuple(_MODULES)
"""How the name of a file may end."""


def suffix_of(path: Path) -> str | None:
    """Return the one of `SUFFIXES` that a file's name ends in, in lower case; None for others."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def open_file(path: Path) -> Source:
    """Open a file and read what its leaves are called, but no numbers yet.

    Its content says what the format is; where it does not, its name does.

    Args:
        path: The file.

    Returns:
        The open file, to be closed by the caller: it is a context manager.

    Raises:
        FileError: If the file cannot be read, is of none of the formats, or holds no leaf.
        MissingError: If a library for it is missing.
        OSError: If the system does not let it be read.
    """
    head = head_of(path)
    suffix = format_of(path, head)
    if suffix is None:
        suffix, what = suffix_of(path), what_is(head)
        if what is not None or suffix is None:
            msg = f"it is {what or 'of none of the formats that are read'}"
            raise FileError(msg)
    module = importlib.import_module(f"{__name__}.{_MODULES[suffix]}")
    with judged("it"):
        source: Source = module.open_source(path)
    try:
        _check_names(source.leaves)
    except FileError:
        source.close()
        raise
    return source


def _check_names(leaves: tuple[Leaf, ...]) -> None:
    if not leaves:
        msg = "it holds no arrays"
        raise FileError(msg)
    name, count = Counter(leaf.name for leaf in leaves).most_common(1)[0]
    if count > 1:
        msg = f"it holds {count} arrays of the name {name!r}"
        raise FileError(msg)
