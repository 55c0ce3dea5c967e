"""Sums in operations of TensorFlow, which adds up float64 nearly in a row.

A sum of a million float64 numbers is off by a dozen units in the last place (TensorFlow 2.21 on the
CPU). Rows of 128 are added first, and then their sums.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from agclip import adapters
from agclip_backends.tensorflow import blocks, groups

_ROW = 128
_STREAMED = 1 << 16
"""Elements from which on a sum by XLA costs less than a copy in float64, which leaves the cache."""
_PROGRAMS = 24
"""Of how many lengths: a program takes a fifth of a second to compile."""
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


Programs = dict[int, Callable[[Any], Any]]


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
    at_once: list[int] = []
    every = sum(leaf.shape.num_elements() or 0 for leaf in leaves)
    streamed = _streamed(leaves) if adapters.is_one(scale) else frozenset()
    programs: Programs = {}
    for places in groups.alike(leaves):
        members = [leaves[i] for i in places]
        if len(members) > 1:
            rows = tf.reshape(tf.stack(members), [len(members), -1])
            squares = _squares(xp, rows, acc_dtype, scale)
            found = tf.unstack(tf.reduce_sum(squares, 1), len(members))
        elif members[0].dtype == tf.float32 and members[0].shape.num_elements() in streamed:
            found = [_in_parts(members[0], every, programs)]
        elif not in_rows:
            at_once += places
            continue
        else:
            found = [whole(_squares(xp, members[0], acc_dtype, scale))]
        for i, one in zip(places, found, strict=True):
            sums[i] = one
    if at_once:
        members = [leaves[i] for i in at_once]
        for i, one in zip(at_once, _at_once(members, acc_dtype, scale), strict=True):
            sums[i] = one
    return sums


def _at_once(leaves: Sequence[Any], acc_dtype: Any, scale: Any) -> Sequence[Any]:
    """Return Σ (scale·x)² of leaves: by an operation on what it reads, and one product for all.

    A product and its sum in rows are eight operations.
    """
    found: list[Any] = [None] * len(leaves)
    if acc_dtype == tf.float64 and adapters.is_one(scale):
        found = blocks.called(leaves, _half_sums)
    for i, leaf in enumerate(leaves):
        if found[i] is None:
            y = leaf if leaf.dtype == acc_dtype else tf.raw_ops.Cast(x=leaf, DstT=acc_dtype)
            found[i] = tf.raw_ops.L2Loss(t=adapters.scaled(y, scale))
    doubled: Sequence[Any] = tf.unstack(2.0 * tf.stack(found), len(found))
    return doubled


@functools.partial(tf.function, autograph=False)
def _half_sums(leaves: Sequence[Any]) -> Sequence[Any]:
    wide = [tf.raw_ops.Cast(x=leaf, DstT=tf.float64) for leaf in leaves]
    return [tf.raw_ops.L2Loss(t=y) for y in wide]


def _squares(xp: Any, x: Any, acc_dtype: Any, scale: Any) -> Any:
    halves = adapters.real_parts(xp, x)
    ys = [adapters.scaled(adapters.cast(xp, half, acc_dtype), scale) for half in halves]
    return ys[0] * ys[0] if len(ys) == 1 else ys[0] * ys[0] + ys[1] * ys[1]


def _streamed(leaves: Sequence[Any]) -> frozenset[int]:
    """Return the lengths of leaves that XLA sums, which widens and squares what it reads.

    TensorFlow's own operations write a copy in float64 first. XLA compiles for each length: those
    are chosen that most elements are of.
    """
    if tf.executing_eagerly() or tf.config.list_physical_devices("GPU"):
        return frozenset()
    elements: Counter[int] = Counter()
    for leaf in leaves:
        count = leaf.shape.num_elements()
        if leaf.dtype == tf.float32 and count is not None and count >= _STREAMED:
            elements[count] += count
    return frozenset(length for length, _ in elements.most_common(_PROGRAMS))


def _in_parts(x: Any, every: int, programs: Programs) -> Any:
    """Return Σ x² in float64, of parts that TensorFlow's threads share: XLA's program has one.

    A leaf that has few of the call's `every` elements is left whole: each part is a launch. XLA is
    given vectors, since it would compile for each shape, and index the elements of it slowly.
    """
    x = x if x.shape.rank == 1 else tf.reshape(x, [-1])
    count = x.shape[0]
    if count < max(_SHARED, every // _PARTS):
        return _by_program(x, programs)
    width = count // _PARTS // _LINE * _LINE
    end = _PARTS * width
    rest = tf.cast(x[end:], tf.float64)
    parts = tf.unstack(tf.reshape(x[:end], [_PARTS, width]), _PARTS)
    sums = [_by_program(part, programs) for part in parts]
    return tf.add_n([*sums, tf.reduce_sum(rest * rest)])


def _by_program(x: Any, programs: Programs) -> Any:
    """Return Σ x² by the program for its length: to look it up costs more than to call it."""
    length = x.shape[0]
    if length not in programs:
        spec = tf.TensorSpec([length], tf.float32)
        function: Any = _of_streams
        programs[length] = function.get_concrete_function(spec)
    return programs[length](x)


@functools.partial(tf.function, jit_compile=True, autograph=False)
def _of_streams(x: Any) -> Any:
    """Return Σ x² of a vector in float64: streams side by side become vector instructions."""
    width = x.shape[0] // _STREAMS // _LINE * _LINE
    if width % _PAGE == 0:
        width -= _LINE
    rest = x.shape[0] - _STREAMS * width
    # One operation to trace, and not five for each.
    parts = tf.split(x, [*[width] * _STREAMS, rest])
    wide = [tf.raw_ops.Cast(x=part, DstT=tf.float64) for part in parts]
    *streams, last = [tf.raw_ops.Mul(x=part, y=part) for part in wide]
    return tf.reduce_sum(functools.reduce(tf.add, streams)) + tf.reduce_sum(last)
