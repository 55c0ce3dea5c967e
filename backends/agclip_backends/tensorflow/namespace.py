"""The part of the Array API standard that agclip calls, in TensorFlow's operations.

TensorFlow has no namespace of the standard. What is not here is looked up in `tf` and `tf.math`,
under the names of the standard where they are TensorFlow's too.

Each function does the same in eager code, in a graph that Grappler rewrites, and under XLA. They
differ where NaN is compared, and where numbers are rounded: the comments say how (TensorFlow 2.21).
"""

from __future__ import annotations

import builtins
import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from agclip_backends.tensorflow import memory, sums

Axis = int | tuple[int, ...] | None
bool = tf.bool  # the standard's name, which hides Python's in this module


def __getattr__(name: str) -> Any:
    found = getattr(tf, name, None)
    return getattr(tf.math, name) if found is None else found


class _Info:
    """What a namespace says of itself."""

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        return {
            "float32": tf.float32,
            "float64": tf.float64,
            "complex64": tf.complex64,
            "complex128": tf.complex128,
            "int32": tf.int32,
            "int64": tf.int64,
            "bool": tf.bool,
        }

    def devices(self) -> list[str]:
        return [f"{one.device_type}:{k}" for k, one in enumerate(tf.config.list_logical_devices())]

    def default_device(self) -> None:
        return None


def __array_namespace_info__() -> _Info:  # noqa: N807 - the standard's name
    return _Info()


# --- making arrays -----------------------------------------------------------------------------


def _constant(values: Any, dtype: Any, device: Any) -> Any:
    # By way of NumPy, which rounds a number once: `tf.cast` takes Python's floats for float32.
    made = np.asarray(values, None if dtype is None else dtype.as_numpy_dtype)
    if dtype is None and made.dtype in (np.float64, np.complex128):
        made = made.astype(np.float32 if made.dtype == np.float64 else np.complex64)
    elif dtype is None and made.dtype == np.int64:
        made = made.astype(np.int32)
    with contextlib.nullcontext() if device is None else tf.device(device):
        if device is None and tf.executing_eagerly():
            return memory.tensor(made)
        return tf.constant(made)


def asarray(x: Any, /, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Any:
    if not tf.is_tensor(x):
        return _constant(np.array(x) if copy else x, dtype, device)
    if dtype is not None and x.dtype != dtype:
        return tf.cast(x, dtype)
    return tf.identity(x) if copy else tf.convert_to_tensor(x)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    if tf.is_tensor(fill_value):
        value = fill_value if dtype is None else tf.cast(fill_value, dtype)
        return tf.fill(shape, value)
    value = _constant(fill_value, dtype, device)
    return value if shape == () else tf.fill(shape, value)


def full_like(x: Any, fill_value: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    value = full((), fill_value, dtype=dtype or x.dtype, device=device)
    return value if x.shape.rank == 0 else tf.fill(tf.shape(x), value)


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return full(shape, 0, dtype=dtype or tf.float32, device=device)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return full(shape, 1, dtype=dtype or tf.float32, device=device)


def zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    return tf.zeros_like(x, dtype)


def ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    return tf.ones_like(x, dtype)


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
) -> Any:
    first, last = (0, start) if stop is None else (start, stop)
    return tf.range(first, last, step, dtype=dtype)


def from_dlpack(x: Any, /, *, device: Any = None, copy: Any = None) -> Any:
    """Return an array of another library as a tensor.

    TensorFlow ends the process when it is handed memory of the host that is not aligned to 64 bytes
    (2.21): what lies otherwise is copied.
    """
    on_host = x.__dlpack_device__()[0] == 1
    found = memory.tensor(np.from_dlpack(x)) if on_host else None
    return tf.experimental.dlpack.from_dlpack(x.__dlpack__()) if found is None else found


# --- dtypes and shapes -------------------------------------------------------------------------


def astype(x: Any, dtype: Any, /, *, copy: Any = True, device: Any = None) -> Any:
    return tf.cast(x, dtype)


def reshape(x: Any, /, shape: Sequence[int], *, copy: Any = None) -> Any:
    return tf.reshape(x, shape)


def broadcast_to(x: Any, /, shape: Sequence[int]) -> Any:
    return tf.broadcast_to(x, shape)


def concat(arrays: Sequence[Any], /, *, axis: int = 0) -> Any:
    return tf.concat(arrays, axis)


def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Any:
    return tf.stack(arrays, axis)


def sort(x: Any, /, *, axis: int = -1, descending: Any = False, stable: Any = True) -> Any:
    return tf.sort(x, axis, "DESCENDING" if descending else "ASCENDING")


# --- elementwise -------------------------------------------------------------------------------


def _pair(a: Any, b: Any) -> tuple[Any, Any]:
    """Return two operands as tensors of one dtype: a number takes that of the other."""
    if tf.is_tensor(a):
        return a, b if tf.is_tensor(b) else full((), b, dtype=a.dtype)
    return full((), a, dtype=b.dtype), b


def where(condition: Any, x1: Any, x2: Any, /) -> Any:
    x1, x2 = _pair(x1, x2)
    if condition.shape.rank == x1.shape.rank == x2.shape.rank == 0:
        # Half as long as the operation that broadcasts: a coefficient is made by ten.
        return tf.raw_ops.Select(condition=condition, x=x1, y=x2)
    return tf.where(condition, x1, x2)


def maximum(x1: Any, x2: Any, /) -> Any:
    # XLA's maximum of one and NaN is one.
    a, b = _pair(x1, x2)
    return tf.where(tf.not_equal(a, a), a, tf.where(tf.not_equal(b, b), b, tf.maximum(a, b)))


def minimum(x1: Any, x2: Any, /) -> Any:
    a, b = _pair(x1, x2)
    return tf.where(tf.not_equal(a, a), a, tf.where(tf.not_equal(b, b), b, tf.minimum(a, b)))


def less_equal(x1: Any, x2: Any, /) -> Any:
    a, b = _pair(x1, x2)
    return a <= b


def remainder(x1: Any, x2: Any, /) -> Any:
    return tf.math.floormod(*_pair(x1, x2))


def logical_not(x: Any, /) -> Any:
    # Grappler makes `a > b` of `not (a <= b)`, which is another answer where one is NaN.
    return where(x, tf.constant(False), tf.constant(True))


def abs(x: Any, /) -> Any:
    return tf.abs(x)


def sqrt(x: Any, /) -> Any:
    return tf.sqrt(x)


def floor(x: Any, /) -> Any:
    return tf.floor(x)


def real(x: Any, /) -> Any:
    return tf.math.real(x)


def imag(x: Any, /) -> Any:
    return tf.math.imag(x)


def isnan(x: Any, /) -> Any:
    if x.dtype.is_complex:
        return tf.math.is_nan(tf.math.real(x)) | tf.math.is_nan(tf.math.imag(x))
    return tf.math.is_nan(x) if x.dtype.is_floating else tf.zeros_like(x, tf.bool)


def isinf(x: Any, /) -> Any:
    if x.dtype.is_complex:
        return tf.math.is_inf(tf.math.real(x)) | tf.math.is_inf(tf.math.imag(x))
    return tf.math.is_inf(x) if x.dtype.is_floating else tf.zeros_like(x, tf.bool)


def isfinite(x: Any, /) -> Any:
    if x.dtype.is_complex:
        return tf.math.is_finite(tf.math.real(x)) & tf.math.is_finite(tf.math.imag(x))
    return tf.math.is_finite(x) if x.dtype.is_floating else tf.ones_like(x, tf.bool)


# --- reductions --------------------------------------------------------------------------------


def sum(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: Any = False) -> Any:
    y = x if dtype is None or x.dtype == dtype else tf.cast(x, dtype)
    if axis is None and not keepdims:
        return sums.whole(y)
    return tf.reduce_sum(y, axis, keepdims)


def max(x: Any, /, *, axis: Axis = None, keepdims: Any = False) -> Any:
    return _extreme(x, tf.reduce_max, axis, keepdims)


def min(x: Any, /, *, axis: Axis = None, keepdims: Any = False) -> Any:
    return _extreme(x, tf.reduce_min, axis, keepdims)


def _extreme(x: Any, reduce: Any, axis: Axis, keepdims: builtins.bool) -> Any:
    found = reduce(x, axis, keepdims)
    if not x.dtype.is_floating:
        return found
    # XLA's reductions lose a NaN.
    missing = tf.reduce_any(tf.math.is_nan(x), axis, keepdims)
    return where(missing, math.nan, found)


def any(x: Any, /, *, axis: Axis = None, keepdims: Any = False) -> Any:
    return tf.reduce_any(x, axis, keepdims)


def all(x: Any, /, *, axis: Axis = None, keepdims: Any = False) -> Any:
    return tf.reduce_all(x, axis, keepdims)
