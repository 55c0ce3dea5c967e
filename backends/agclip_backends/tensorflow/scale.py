"""Products of tensors and a coefficient: in operations of TensorFlow, or in host memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from agclip.adapters import Factor, Scalar, kind_of


def scale(xp: Any, leaves: Sequence[Any], factor: Factor) -> Sequence[Any]:
    """Return each leaf times the factor: multiplied in float32 for half types, rounded once."""
    fitted: dict[Any, Any] = {}

    def parts_for(real: Any) -> list[Any]:
        if real not in fitted:
            pre, rest = factor.wide if real == tf.float64 else factor.narrow
            fitted[real] = [_in_dtype(xp, pre, real), _in_dtype(xp, rest, real)]
        return fitted[real]

    return [_multiplied(leaf, *parts_for(_real(leaf))) for leaf in leaves]


def _real(leaf: Any) -> Any:
    return tf.float64 if kind_of(leaf.dtype).precision == 53 else tf.float32


def _in_dtype(xp: Any, part: Scalar | None, real: Any) -> Any:
    if part is None:
        return None
    return xp.full((), part, dtype=real) if isinstance(part, float) else tf.cast(part, real)


def _multiplied(leaf: Any, pre: Any, rest: Any) -> Any:
    if leaf.dtype.is_complex:
        # TensorFlow multiplies complex by complex alone, and an infinity beside a 0 would be NaN.
        return tf.complex(
            _multiplied(tf.math.real(leaf), pre, rest), _multiplied(tf.math.imag(leaf), pre, rest)
        )
    y = tf.cast(leaf, rest.dtype)
    if pre is not None:
        # A quotient by a power of two is exact; of two products Grappler makes one, whose factor
        # may underflow.
        y = y / (1.0 / pre)
    return tf.cast(y * rest, leaf.dtype)
