"""Tensors in host memory and NumPy arrays: the same elements, copied where nothing else is safe."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

_LINE = 64
"""Bytes that TensorFlow wants memory to be aligned to: it ends the process otherwise (2.21)."""
_LARGE = 1 << 22
"""Bytes from which on an operation of TensorFlow costs little beside the pages of new memory."""
_BFLOAT16 = tf.bfloat16.as_numpy_dtype
_SHARED = frozenset(
    map(np.dtype, ["?", "b", "h", "i", "q", "B", "H", "I", "Q", "e", "f", "d", "F", "D"])
)
"""The dtypes that go over by DLPack, by NumPy's letters: bool, integers, reals, complex."""


class _Lent:
    """Memory of a new tensor that nobody else has seen, lent to NumPy to be filled."""

    def __init__(self, like: Any) -> None:
        dtype = tf.as_dtype(like.dtype)
        with tf.device("CPU:0"):
            self.tensor = tf.raw_ops.Empty(shape=like.shape, dtype=dtype, init=False)
        address, _ = np.asarray(self.tensor).__array_interface__["data"]
        shown = {"version": 3, "shape": like.shape, "typestr": like.dtype.str}
        self.__array_interface__ = {**shown, "data": (address, False)}


def empty(like: Any) -> Any:
    """Return a new array of the shape and dtype of another, in memory that TensorFlow can share."""
    if like.nbytes >= _LARGE and like.dtype in _SHARED:
        # Twice as fast: TensorFlow's allocator has pages that the system need not clear first.
        return np.asarray(_Lent(like))
    return aligned(like.shape, like.dtype)


def aligned(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a new array in memory that is aligned as TensorFlow wants it."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _LINE, np.uint8)
    start = -raw.__array_interface__["data"][0] % _LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def tensor(array: Any) -> Any:
    """Return an array as an eager tensor: the same memory if that is aligned, else a copy.

    An array that somebody may still write to has to be copied before.
    """
    if type(array.base) is _Lent:
        return array.base.tensor
    lies_well = array.__array_interface__["data"][0] % _LINE == 0 and array.flags.c_contiguous
    if not lies_well or not array.flags.writeable:
        copied = aligned(array.shape, array.dtype)
        copied[...] = array
        array = copied
    if array.dtype in _SHARED:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    if array.dtype == _BFLOAT16:
        bits = tf.experimental.dlpack.from_dlpack(array.view(np.uint16).__dlpack__())
        return tf.bitcast(bits, tf.bfloat16)
    return tf.constant(array)


def scalar_like(_: Any, value: float, dtype: Any, __: Any) -> Any:
    """Return a Python number or bool as an eager tensor."""
    return tensor(np.array(value, dtype.as_numpy_dtype))


def view(x: Any) -> Any:
    """Return an eager tensor in host memory as an array that shares it."""
    # NumPy has no format for bfloat16, and TensorFlow hands out a scalar for one number (2.21).
    return np.asarray(x.numpy()) if x.dtype == tf.bfloat16 and not x.ndim else np.asarray(x)
