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

from agclip_backends.files._format import FileError, Leaf, Source

__all__ = ["SUFFIXES", "FileError", "Leaf", "Source", "open_file"]

_MODULES = {
    ".npz": "_npz",
    ".npy": "_npy",
    ".safetensors": "_safetensors",
    ".pt": "_pt",
    ".pth": "_pt",
}

SUFFIXES = tuple(_MODULES)
"""How the name of a file may end."""


def open_file(path: Path) -> Source:
    """Open a file and read what its leaves are called, but no numbers yet.

    Args:
        path: A file whose name ends in one of `SUFFIXES`.

    Returns:
        The open file, to be closed by the caller: it is a context manager.

    Raises:
        FileError: If the file cannot be read, is not of the format its name says, or holds no
            leaf, or if a library for it is missing.
    """
    module = importlib.import_module(f"{__name__}.{_MODULES[path.suffix.lower()]}")
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
