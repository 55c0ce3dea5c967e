"""Sums in operations of TensorFlow, which adds up float64 nearly in a row.

A sum of a million float64 numbers is off by a dozen units in the last place (TensorFlow 2.21 on the
CPU). Rows of 128 are added first, and then their sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from agclip import adapters

_SHIFT = 7
_ROW = 1 << _SHIFT
_FEW = 1 << 10
"""Elements that may be added in a row."""


def whole(y: Any) -> Any:
    """Return the sum of all elements."""
    if y.dtype != tf.float64:
        return tf.reduce_sum(y)
    count = y.shape.num_elements()
    if count is not None and count <= _FEW:
        return tf.reduce_sum(y)
    y = tf.reshape(y, [-1])
    if count is None:
        return tf.reduce_sum(_folded(_folded(y)))
    while count > _FEW:
        y = _folded(y)
        count = (count >> _SHIFT) + (count & (_ROW - 1))
    return tf.reduce_sum(y)


def _folded(y: Any) -> Any:
    """Return the sums of rows of a vector, and after them the elements that fill no row."""
    length = y.shape[0]
    rows = (tf.size(y) if length is None else length) >> _SHIFT if length is not None else (
        tf.bitwise.right_shift(tf.size(y), _SHIFT)
    )
    end = rows * _ROW
    sums = tf.reduce_sum(tf.reshape(y[:end], [rows, _ROW]), 1)
    return tf.concat([sums, y[end:]], 0)


def total(_: Any, values: Sequence[Any]) -> Any:
    """Return the sum of scalars."""
    return values[0] if len(values) == 1 else whole(tf.stack(values))


def sum_squares(xp: Any, leaves: Sequence[Any], acc_dtype: Any, scale: Any) -> Sequence[Any]:
    """Return Σ (scale·|x|)² of each leaf, formed in `acc_dtype`."""
    return adapters.sum_squares(xp, leaves, acc_dtype, scale)
