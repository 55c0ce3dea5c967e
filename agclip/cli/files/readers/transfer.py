"""Arrays from NumPy to a backend's library and back, bit by bit.

The command line clips files with any library; from a file its arrays come as NumPy's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agclip import Backend
from agclip._backends.dtypes import kind_of
from agclip.cli.files.readers._format import dtype_of
from agclip_backends import DEFAULT

_FOREIGN = 2
"""What `isbuiltin` of a dtype is when it was added to NumPy, as `ml_dtypes` adds bfloat16."""


def to_backend(array: Any, backend: Backend) -> Any:
    """Return a NumPy array as an array of a backend's library, of the same dtype.

    Args:
        array: The NumPy array; bfloat16 and float8 are dtypes of `ml_dtypes`.
        backend: The backend that the result belongs to.

    Raises:
        TypeError: If the library has no such dtype.
    """
    if backend.name == DEFAULT:
        return array
    name = array.dtype.name
    try:
        with backend.context():
            made = _make(array, backend.xp)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        msg = f"arrays of {name} cannot be made with {backend.name}: {error}"
        raise TypeError(msg) from error
    if kind_of(made.dtype).name != name:
        msg = f"arrays of {name} cannot be made with {backend.name}: they became {made.dtype}"
        raise TypeError(msg)
    return made


def without_entries(dtype: str) -> Any:
    """Return an empty NumPy array of a dtype by name, as `Leaf` has it."""
    return np.empty(0, dtype_of(dtype))


def _make(array: Any, xp: Any) -> Any:
    if _travels_as_bits(array.dtype, xp):
        return xp.asarray(array.view(_carrier(array.dtype))).view(getattr(xp, array.dtype.name))
    return xp.asarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def to_host(array: Any, dtype: Any, backend: Backend) -> Any:
    """Return an array of a backend's library as a NumPy array.

    Args:
        array: The array.
        dtype: The NumPy dtype of the array that it was made from.
        backend: The backend that `array` belongs to.
    """
    if backend.name == DEFAULT:
        return array
    for method in ("compute", "get", "cpu"):  # of Dask, CuPy, PyTorch
        if hasattr(array, method):
            array = getattr(array, method)()
    if _travels_as_bits(dtype, backend.xp):
        bits = getattr(backend.xp, _carrier(dtype))
        return np.asarray(array.view(bits)).view(dtype)
    return np.asarray(array).astype(dtype, copy=False)


def _travels_as_bits(dtype: Any, xp: Any) -> bool:
    """Tell whether a dtype has to pose as integers: PyTorch takes no bfloat16 from NumPy."""
    return dtype.isbuiltin == _FOREIGN and hasattr(xp, "from_numpy")


def _carrier(dtype: Any) -> str:
    return f"int{8 * dtype.itemsize}"
