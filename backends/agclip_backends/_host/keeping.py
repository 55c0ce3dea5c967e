"""Where compiled kernels are kept from one process to the next."""

from __future__ import annotations

from typing import Any


def kept(compiler: Any, *signature: Any, **options: Any) -> Any:
    """Return a compiler whose results are kept on disk; only in memory if there is no place."""

    def compiled(function: Any) -> Any:
        try:
            return compiler(*signature, cache=True, **options)(function)
        except RuntimeError as error:
            # Neither the folder of the kernels nor one of the user's can be written (Numba 0.68).
            if "cannot cache" not in str(error):
                raise
            return compiler(*signature, **options)(function)

    return compiled
