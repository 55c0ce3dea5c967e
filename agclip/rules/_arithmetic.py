"""Arithmetic of statistics that is the same anywhere, to the bit.

A run that moves to another library goes on with the thresholds of one that stayed.
"""

from __future__ import annotations

import math

from agclip._backends import host_scalars
from agclip._backends.backend import Backend
from agclip._typing import Namespace, Scalar


def root(backend: Backend, m: Namespace, x: Scalar) -> Scalar:
    """Return the correctly rounded square root."""
    return m.sqrt(x) if m is host_scalars else backend.sqrt(m, x)


def real(m: Namespace, count: Scalar, like: Scalar) -> Scalar:
    """Return a count in the dtype of another number."""
    return float(count) if m is host_scalars else m.astype(count, like.dtype)


def times(m: Namespace, a: Scalar, b: Scalar) -> Scalar:
    """Return the product of two numbers >= 0, rounded.

    A compiler may merge a product with the sum it goes into, and round once where others round
    twice. It cannot do so through a maximum.
    """
    product = a * b
    if m is host_scalars:
        return product
    return m.maximum(product, m.full_like(product, 0.0))


def average(m: Namespace, old: Scalar, new: Scalar, decay: float) -> Scalar:
    """Return decay·old + (1 - decay)·new of numbers >= 0."""
    return times(m, old, decay) + times(m, new, 1.0 - decay)


def allowing(m: Namespace, norm: Scalar, bound: Scalar) -> Scalar:
    """Return the bounds with which norms that are remembered as within them stay as they are.

    Norms are measured more finely than they are reported and remembered. Compared as measured, a
    norm that is the largest of its own history would exceed it half the time, by a rounding.
    """
    return m.where(norm <= bound, m.full_like(bound, math.inf), bound)
