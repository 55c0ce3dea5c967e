"""`mlx.core`, with what the standard has besides (MLX 0.32).

Arrays of MLX lie on no device, since all devices share one memory: `device` is taken and says
nothing more than that there is such a device.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from agclip_backends.mlx import sums

Axis = int | tuple[int, ...] | None
bool = mx.bool_  # the standard's name, which hides Python's in this module


def __getattr__(name: str) -> Any:
    return getattr(mx, name)


def asarray(x: Any, /, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Any:
    """Return an array; of NumPy's float64 one of float64, where MLX would make it a float32."""
    if dtype is None and isinstance(x, (np.ndarray, np.generic)) and x.dtype == np.float64:
        dtype = mx.float64
    if not isinstance(x, mx.array):
        make: Any = mx.array
        return make(x, dtype=dtype)
    cast = x if dtype is None or x.dtype == dtype else x.astype(dtype)
    return mx.array(x) if copy and cast is x else cast


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    """Return an array filled with a number: as a constant, if it is of no dimension."""
    if shape == () and not isinstance(fill_value, mx.array):
        return mx.array(fill_value, dtype=dtype)
    return mx.full(shape, fill_value, dtype=dtype)


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
    """Return an array of zeros."""
    return mx.zeros(shape, dtype=dtype or mx.float32)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
    """Return an array of ones."""
    return full(shape, 1, dtype=dtype or mx.float32)


def sum(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: Any = False) -> Any:
    """Return the sum along axes; of all elements as `sums.whole` forms it."""
    y = x if dtype is None or x.dtype == dtype else x.astype(dtype)
    if axis is None and not keepdims:
        return sums.whole(y)
    return mx.sum(y, axis=axis, keepdims=keepdims)
