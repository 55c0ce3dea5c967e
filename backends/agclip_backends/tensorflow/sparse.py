"""`tf.IndexedSlices`: some rows of a tensor, those of one number to be added up."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from agclip.adapters import Merged, Sparse


def stored(objects: Sequence[Any], types: set[type]) -> list[Sparse | None] | None:
    """Return what slices among the objects store."""
    if not any(issubclass(cls, tf.IndexedSlices) for cls in types):
        return None
    return [_stored(x) if isinstance(x, tf.IndexedSlices) else None for x in objects]


def _stored(x: Any) -> Sparse:
    def rebuild(new: Any) -> Any:
        return tf.IndexedSlices(new, x.indices, x.dense_shape)

    values = tf.convert_to_tensor(x.values)
    merged = functools.partial(_merged, values, x.indices)
    return Sparse(x, values, _size(x), merged, rebuild, zeros=False)


def _size(x: Any) -> Any:
    if isinstance(x.dense_shape, (list, tuple)):  # with these `x.shape` fails (TensorFlow 2.21)
        return float(max(math.prod(x.dense_shape), 1))
    lengths = x.shape
    if lengths.is_fully_defined():
        return float(max(math.prod(lengths), 1))
    if x.dense_shape is None:
        return None
    return tf.maximum(tf.reduce_prod(tf.cast(x.dense_shape, tf.float64)), 1.0)


def _merged(values: Any, indices: Any, dtype: Any) -> Merged:
    """Return rows with those of one number added up, where the first of them is, and zeros else.

    As many rows come out as go in, so that XLA knows how many.
    """
    count = tf.shape(indices, tf.int64)[0]
    position = tf.range(count)
    order = tf.argsort(indices, stable=True)
    ordered = tf.gather(indices, order)
    # Functions, since `!=` and `==` compare objects where there are sessions.
    new = tf.not_equal(ordered[1:], ordered[:-1])
    first = tf.concat([tf.ones_like(ordered[:1], tf.bool), new], 0)
    if tf.executing_eagerly() and bool(tf.reduce_all(first)):
        return Merged(values, None)
    place = tf.cumsum(tf.cast(first, tf.int64)) - 1
    slot = tf.cast(order, tf.int64)
    begun = tf.math.unsorted_segment_min(slot, place, count)
    owner = tf.scatter_nd(slot[:, None], tf.gather(begun, place), count[None])
    sums = tf.math.unsorted_segment_sum(tf.cast(values, dtype), owner, count)
    counted = tf.equal(owner, position)
    mask = tf.reshape(
        counted, tf.concat([count[None], tf.ones_like(tf.shape(values)[1:], tf.int64)], 0)
    )
    return Merged(tf.ensure_shape(sums, values.shape), mask)
