"""Calls as the documentation writes them, carried out with TensorFlow's functions or agclip's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import agclip

Functions = Mapping[str, Any]
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64")


def theirs(tf: Any) -> Functions:
    """Return TensorFlow's functions by the names that agclip has for them."""
    return {
        "clip_by_value": tf.clip_by_value,
        "clip_by_norm": tf.clip_by_norm,
        "clip_by_average_norm": tf.compat.v1.clip_by_average_norm,
        "clip_by_global_norm": tf.clip_by_global_norm,
        "global_norm": tf.linalg.global_norm,
    }


def ours(tf: Any) -> Functions:
    return {name: getattr(agclip, name) for name in theirs(tf)}


def outcome(call: str, functions: Functions) -> Any:
    """Return what a call returns, in Python's lists and numbers, or the name of what it raises."""
    import tensorflow as tf  # as late as in the tests, which skip without it

    def of_tensor(function: Any) -> Any:
        return lambda t, *rest: function(t if tf.is_tensor(t) else tf.constant(t), *rest)

    names = {"nan": math.nan, "inf": math.inf, **functions}
    for name in ("clip_by_value", "clip_by_norm", "clip_by_average_norm"):
        names[name] = of_tensor(functions[name])
    for name in DTYPES:
        names[name] = lambda values, dtype=name: tf.constant(values, dtype)
    try:
        return plain(eval(call, names))
    except (ArithmeticError, AttributeError, TypeError, ValueError, tf.errors.OpError) as error:
        return type(error).__name__


def plain(x: Any) -> Any:
    """Return tensors in containers as lists of numbers."""
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)(map(plain, x))
    # The shortest decimals that say which number of the dtype it is.
    return x if x is None else _decimals(np.asarray(x.numpy()))


def _decimals(x: Any) -> Any:
    if x.ndim:
        return [_decimals(np.asarray(row)) for row in x]
    if x.dtype.kind in "ic":
        return x.item()
    return float(str(x))


def shown(result: Any) -> str:
    """Return a result as the documentation has it."""
    return result if isinstance(result, str) else repr(result)
