"""Where compiled kernels are kept from one process to the next."""

from __future__ import annotations

import importlib
import pickle
from types import ModuleType
from typing import Any

BROKEN = OSError, EOFError, pickle.UnpicklingError
"""What Numba's cache raises of a full disk, of files that were cut short, or of another user's.

Numba 0.66 lets out what `open` and `pickle.load` raise, though it can do without its cache.
"""


class _Disk:
    """Whether kernels are kept on disk at all."""

    used = True


def kept(compiler: Any, *signature: Any, **options: Any) -> Any:
    """Return a compiler whose results are kept on disk; only in memory if there is no place."""

    def compiled(function: Any) -> Any:
        if not _Disk.used:
            return compiler(*signature, **options)(function)
        try:
            return compiler(*signature, cache=True, **options)(function)
        except RuntimeError as error:
            # Neither the folder of the kernels nor one of the user's can be written (Numba 0.68).
            if "cannot cache" not in str(error):
                raise
            return compiler(*signature, **options)(function)

    return compiled


def in_memory(module: ModuleType) -> ModuleType:
    """Return a module whose functions are compiled anew, and kept in memory alone."""
    _Disk.used = False
    return importlib.reload(module)
