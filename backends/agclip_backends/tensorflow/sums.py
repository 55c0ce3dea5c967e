"""Sums in operations of TensorFlow, which adds up float64 nearly in a row.

A sum of a million float64 numbers is off by a dozen units in the last place (TensorFlow 2.21 on the
CPU). Rows of 128 are added first, and then their sums.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from agclip import adapters
from agclip_backends.tensorflow import groups

_ROW = 128
_SHARED = 1 << 20
"""Elements from which on a leaf is worth sharing between threads."""
_PARTS = 4
"""Into how many, unless there are other leaves to keep as many threads at work."""
_STREAMS = 16
"""With 12 or 14 a program that the caller has XLA compile takes twice as long (TensorFlow 2.21)."""
_LINE = 16
"""Elements of float32 in a cache line."""
_PAGE = 512
"""Elements of float64 in a page of 4 KiB: streams a multiple of it apart share cache lines."""


def whole(y: Any) -> Any:
    """Return the sum of all elements."""
    if y.dtype != tf.float64:
        return tf.reduce_sum(y)
    count = y.shape.num_elements()
    if count is not None and count <= groups.SMALL:
        return tf.reduce_sum(y)
    y = tf.reshape(y, [-1])
    if count is None:
        return tf.reduce_sum(_folded(_folded(y)))
    while count > groups.SMALL:
        y = _folded(y)
        count = count // _ROW + count % _ROW
    return tf.reduce_sum(y)


def _folded(y: Any) -> Any:
    """Return the sums of rows of a vector, and after them the elements that fill no row."""
    length = y.shape[0]
    rows = tf.size(y) // _ROW if length is None else length // _ROW
    end = rows * _ROW
    sums = tf.reduce_sum(tf.reshape(y[:end], [rows, _ROW]), 1)
    return tf.concat([sums, y[end:]], 0)


def total(_: Any, values: Sequence[Any]) -> Any:
    """Return the sum of scalars."""
    if len(values) == 1:
        return values[0]
    vector = _unstacked_from(values)
    return whole(tf.stack(values) if vector is None else vector)


def _unstacked_from(values: Sequence[Any]) -> Any:
    """Return the vector that scalars of a graph are all the elements of, in order."""
    if tf.executing_eagerly():
        return None
    source = values[0].op
    if source.type != "Unpack" or len(source.outputs) != len(values):
        return None
    same = all(one is other for one, other in zip(source.outputs, values, strict=True))
    return source.inputs[0] if same else None


def sum_squares(xp: Any, leaves: Sequence[Any], acc_dtype: Any, scale: Any) -> Sequence[Any]:
    """Return Σ (scale·|x|)² of each leaf, formed in `acc_dtype`."""
    sums: list[Any] = [None] * len(leaves)
    in_rows = any(leaf.dtype in (tf.float64, tf.complex64, tf.complex128) for leaf in leaves)
    halves: dict[int, Any] = {}
    every = sum(leaf.shape.num_elements() or 0 for leaf in leaves)
    for places in groups.alike(leaves):
        members = [leaves[i] for i in places]
        if len(members) > 1:
            rows = tf.reshape(tf.stack(members), [len(members), -1])
            squares = _squares(xp, rows, acc_dtype, scale)
            found = tf.unstack(tf.reduce_sum(squares, 1), len(members))
        elif adapters.is_one(scale) and _streams(members[0]):
            found = [_in_parts(members[0], every)]
        elif not in_rows:
            # One operation on what it reads, where a product and its sum in rows are eight.
            y = adapters.scaled(adapters.cast(xp, members[0], acc_dtype), scale)
            halves[places[0]] = tf.nn.l2_loss(y)
            continue
        else:
            found = [whole(_squares(xp, members[0], acc_dtype, scale))]
        for i, one in zip(places, found, strict=True):
            sums[i] = one
    if halves:
        # One product and not one for each.
        doubled = tf.unstack(2.0 * tf.stack(list(halves.values())), len(halves))
        for i, one in zip(halves, doubled, strict=True):
            sums[i] = one
    return sums


def _squares(xp: Any, x: Any, acc_dtype: Any, scale: Any) -> Any:
    halves = adapters.real_parts(xp, x)
    ys = [adapters.scaled(adapters.cast(xp, half, acc_dtype), scale) for half in halves]
    return ys[0] * ys[0] if len(ys) == 1 else ys[0] * ys[0] + ys[1] * ys[1]


def _streams(x: Any) -> bool:
    """Tell whether a leaf is summed by XLA, which widens and squares it while it reads it.

    TensorFlow's own operations write two copies in float64 first. XLA compiles for each length.
    """
    return (
        x.dtype == tf.float32
        and x.shape.num_elements() is not None
        and groups.is_large(x)
        and not tf.executing_eagerly()
        and not tf.config.list_physical_devices("GPU")
    )


def _in_parts(x: Any, every: int) -> Any:
    """Return Σ x² in float64, of parts that TensorFlow's threads share: XLA's program has one.

    A leaf that has few of the call's `every` elements is left whole: each part is a launch. XLA is
    given vectors, since it would compile for each shape, and index the elements of it slowly.
    """
    x = tf.reshape(x, [-1])
    count = x.shape[0]
    if count < max(_SHARED, every // _PARTS):
        return _of_streams(x)
    width = count // _PARTS // _LINE * _LINE
    end = _PARTS * width
    rest = tf.cast(x[end:], tf.float64)
    parts = tf.unstack(tf.reshape(x[:end], [_PARTS, width]), _PARTS)
    return tf.add_n([*map(_of_streams, parts), tf.reduce_sum(rest * rest)])


@functools.partial(tf.function, jit_compile=True, autograph=False)
def _of_streams(x: Any) -> Any:
    """Return Σ x² of a vector in float64: streams side by side become vector instructions."""
    width = x.shape[0] // _STREAMS // _LINE * _LINE
    if width % _PAGE == 0:
        width -= _LINE
    parts = [tf.cast(x[k * width : (k + 1) * width], tf.float64) for k in range(_STREAMS)]
    folded = functools.reduce(tf.add, [part * part for part in parts])
    rest = tf.cast(x[_STREAMS * width :], tf.float64)
    return tf.reduce_sum(folded) + tf.reduce_sum(rest * rest)
