"""Calls of TensorFlow's clip functions, as its own tests and documentation make them.

A case is a name, a function of `tf` and of the library whose functions it calls, and the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

NAN, INF = math.nan, math.inf


class Case(NamedTuple):
    name: str
    call: Callable[[Any, Any], Any]
    """`(tf, library)` → a tensor, or a list with tensors and None."""
    result: Any
    dtype: str = "float32"


def _joint(tf, lib, bound, **options):
    grads = [tf.constant([[-2.0, 0, 0], [4, 0, 0]]), tf.constant([1.0, -2])]
    clipped, norm = lib.clip_by_global_norm(grads, bound, **options)
    return [*clipped, norm]


def _with_norm(tf, lib, norm):
    return _joint(tf, lib, 4.0, use_norm=tf.constant(norm))


def _among_none(tf, lib):
    clipped, norm = lib.clip_by_global_norm([tf.constant([3.0]), None, tf.constant([4.0])], 2.5)
    return [*clipped, norm]


def _of_value(values, low, high):
    return lambda tf, lib: lib.clip_by_value(tf.constant(values), low, high)


def _integers(dtype):
    def call(tf, lib):
        return lib.clip_by_value(tf.constant([[1, 1, 2, 4], [3, 4, 8, 5]], dtype), 2, 5)

    return Case(f"value: {dtype}", call, [[2, 2, 2, 4], [3, 4, 5, 5]], dtype)


def _reals(dtype):
    def call(tf, lib):
        return lib.clip_by_value(tf.constant([1.0, 2, 3, 4, 5, 6], dtype), 2.0, 5.0)

    return Case(f"value: {dtype}", call, [2, 2, 3, 4, 5, 5], dtype)


ROWS = [[-3.0, 0, 0], [4, 0, 0]]
OTHER = [[-3.0, 0, 0], [4, 0, 3]]

VALUE = [
    *map(_reals, ("float16", "bfloat16", "float32", "float64")),
    *map(_integers, ("uint8", "int16", "int32", "int64")),
    Case(
        "value: both sides", _of_value([-5.0, 2, 3, 4, 5, 6], -4.4, 4.4), [-4.4, 2, 3, 4, 4.4, 4.4]
    ),
    Case("value: NaN stays", _of_value([NAN, INF, -INF], -4.0, 4.0), [NAN, 4, -4]),
    Case(
        "value: bounds as tensors",
        lambda tf, lib: lib.clip_by_value(
            tf.constant([[1.0, 2, 3], [4, 5, 6]]), tf.constant(2.0), tf.constant([2.0, 4.5, 5])
        ),
        [[2, 2, 3], [2, 4.5, 5]],
    ),
    Case(
        "value: a bound for each",
        lambda tf, lib: lib.clip_by_value(
            tf.constant([[-1.0, 2], [3, 9]]), tf.zeros([2, 2]), tf.constant([[1.0, 1], [2, 4]])
        ),
        [[0, 1], [2, 4]],
    ),
    Case("value: empty", lambda tf, lib: lib.clip_by_value(tf.zeros([7, 0]), -1.0, 1.0), [[]] * 7),
]

NORM = [
    Case(
        "norm: above",
        lambda tf, lib: lib.clip_by_norm(tf.constant(ROWS), 4.0),
        [[-2.4, 0, 0], [3.2, 0, 0]],
    ),
    Case(
        "norm: bound is a tensor",
        lambda tf, lib: lib.clip_by_norm(tf.constant(ROWS), tf.constant(4.0)),
        [[-2.4, 0, 0], [3.2, 0, 0]],
    ),
    Case("norm: below", lambda tf, lib: lib.clip_by_norm(tf.constant(ROWS), 6.0), ROWS),
    Case("norm: equal", lambda tf, lib: lib.clip_by_norm(tf.constant(ROWS), 5.0), ROWS),
    Case("norm: zero", lambda tf, lib: lib.clip_by_norm(tf.zeros([2, 3]), 6.0), [[0, 0, 0]] * 2),
    Case(
        "norm: bound of zero",
        lambda tf, lib: lib.clip_by_norm(tf.constant(ROWS), 0.0),
        [[0, 0, 0]] * 2,
    ),
    Case(
        "norm: columns",
        lambda tf, lib: lib.clip_by_norm(tf.constant(OTHER), 4.0, [0]),
        [[-2.4, 0, 0], [3.2, 0, 3]],
    ),
    Case(
        "norm: rows",
        lambda tf, lib: lib.clip_by_norm(tf.constant(OTHER), 4.0, axes=[1]),
        [[-3, 0, 0], [3.2, 0, 2.4]],
    ),
    Case(
        "norm: rows, one axis",
        lambda tf, lib: lib.clip_by_norm(tf.constant(OTHER), 4.0, -1),
        [[-3, 0, 0], [3.2, 0, 2.4]],
    ),
    Case("norm: rows below", lambda tf, lib: lib.clip_by_norm(tf.constant(OTHER), 6.0, [1]), OTHER),
    Case(
        "norm: the documented example",
        lambda tf, lib: lib.clip_by_norm(tf.constant([[1.0, 2, 3, 4, 5]]), 2.0),
        [[0.26967996, 0.5393599, 0.80903983, 1.0787199, 1.3483998]],
    ),
    Case(
        "average: above",
        lambda tf, lib: lib.clip_by_average_norm(tf.constant(ROWS), 0.8),
        [[-2.88, 0, 0], [3.84, 0, 0]],
    ),
    Case(
        "average: bound is a tensor",
        lambda tf, lib: lib.clip_by_average_norm(tf.constant(ROWS), tf.constant(0.8)),
        [[-2.88, 0, 0], [3.84, 0, 0]],
    ),
    Case("average: below", lambda tf, lib: lib.clip_by_average_norm(tf.constant(ROWS), 0.9), ROWS),
    Case(
        "average: zero",
        lambda tf, lib: lib.clip_by_average_norm(tf.zeros([2, 3]), 0.9),
        [[0, 0, 0]] * 2,
    ),
]

SMALLER = [[[-1.6, 0, 0], [3.2, 0, 0]], [0.8, -1.6]]
WHOLE = [[[-2, 0, 0], [4, 0, 0]], [1, -2]]

JOINT = [
    Case("global: above", lambda tf, lib: _joint(tf, lib, 4.0), [*SMALLER, 5]),
    Case(
        "global: bound is a tensor",
        lambda tf, lib: _joint(tf, lib, tf.constant(4.0)),
        [*SMALLER, 5],
    ),
    Case("global: below", lambda tf, lib: _joint(tf, lib, 6.0), [*WHOLE, 5]),
    Case("global: norm is given", lambda tf, lib: _with_norm(tf, lib, 5.0), [*SMALLER, 5]),
    Case(
        "global: another norm is given",
        lambda tf, lib: _with_norm(tf, lib, 8.0),
        [[[-1, 0, 0], [2, 0, 0]], [0.5, -1], 8],
    ),
    Case("global: None among them", _among_none, [[1.5], None, [2], 5]),
    Case(
        "global: zero",
        lambda tf, lib: list(lib.clip_by_global_norm([tf.zeros([2])], 6.0)[0]),
        [[0, 0]],
    ),
    Case(
        "global: an infinity",
        lambda tf, lib: [
            *lib.clip_by_global_norm([tf.constant([-2.0, INF]), tf.constant([1.0])], 6.0)[0]
        ],
        [[NAN, NAN], [NAN]],
    ),
    Case(
        "global: norm alone",
        lambda tf, lib: lib.global_norm([tf.constant([3.0]), None, tf.constant([4.0])]),
        5,
    ),
]

SAME = [*VALUE, *NORM, *JOINT]
"""What both return."""

FAULTS = [
    Case("norm: zero, bound of zero", lambda tf, lib: lib.clip_by_norm(tf.zeros([2]), 0.0), [0, 0]),
    Case("norm: no bound", lambda tf, lib: lib.clip_by_norm(tf.constant([3.0, 4]), INF), [3, 4]),
    Case(
        "norm: squares overflow",
        lambda tf, lib: lib.clip_by_norm(tf.constant([3e20, 4e20]), 5.0),
        [3, 4],
    ),
    Case(
        "norm: squares underflow",
        lambda tf, lib: lib.clip_by_norm(tf.constant([3e-30, 4e-30]), 5e-31),
        [3e-31, 4e-31],
    ),
    Case(
        "norm: complex",
        lambda tf, lib: lib.clip_by_norm(tf.constant([3 + 4j]), 2.5),
        [1.5 + 2j],
        "complex128",
    ),
    Case(
        "average: float64",
        lambda tf, lib: lib.clip_by_average_norm(tf.constant(ROWS, "float64"), 0.8),
        [[-2.88, 0, 0], [3.84, 0, 0]],
        "float64",
    ),
    Case(
        "global: squares overflow",
        lambda tf, lib: lib.clip_by_global_norm([tf.constant([3e20, 4e20])], 5.0)[0],
        [[3, 4]],
    ),
    Case(
        "global: zero, bound of zero",
        lambda tf, lib: lib.clip_by_global_norm([tf.zeros([2])], 0.0)[0],
        [[0, 0]],
    ),
    Case(
        "global: no bound",
        lambda tf, lib: lib.clip_by_global_norm([tf.constant([3.0, 4])], INF)[0],
        [[3, 4]],
    ),
    Case(
        "global: mixed dtypes",
        lambda tf, lib: lib.global_norm([tf.constant([3.0]), tf.constant([4.0], "float64")]),
        5,
        "float64",
    ),
    Case(
        "global: norm is a number", lambda tf, lib: _joint(tf, lib, 4.0, use_norm=5.0)[:2], SMALLER
    ),
]
"""What TensorFlow 2.21 gets wrong, or refuses, and agclip does not."""
