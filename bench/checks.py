"""What a call must have done: a benchmark of the wrong result measures nothing.

A check takes the leaves that came out as NumPy arrays, the gradients, and the bound.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from bench.contests import Leaves
from bench.workloads import Gradients

# Some peers' norms of millions of float32 numbers are wrong: by 3 per cent for 30 M (MLX 0.32).
_TOLERANCE = 0.05


def norm(leaves: Leaves) -> float:
    """Return the global norm, summed in float64."""
    return math.sqrt(sum(np.linalg.norm(np.float64(leaf)) ** 2 for leaf in leaves))


def norm_is_bound(leaves: Leaves, _: Gradients, bound: float) -> bool:
    """Tell whether the global norm is what it was clipped to."""
    return math.isclose(norm(leaves), bound, rel_tol=_TOLERANCE)


def norms_are_bound(leaves: Leaves, _: Gradients, bound: float) -> bool:
    """Tell whether the norm of every leaf is what it was clipped to."""
    return all(math.isclose(norm([leaf]), bound, rel_tol=_TOLERANCE) for leaf in leaves)


def largest_is_bound(leaves: Leaves, _: Gradients, bound: float) -> bool:
    """Tell whether the largest absolute value is what it was clipped to."""
    largest = max(float(np.abs(leaf).max()) for leaf in leaves)
    return math.isclose(largest, bound, rel_tol=1e-6)


def unchanged(tree: Leaves, gradients: Gradients, _: float) -> bool:
    """Tell whether the leaves of a tree are what they were, up to a rounding.

    TensorFlow and Keras multiply by the bound and its reciprocal, whose product need not be 1.
    """
    return all(map(_close, jax.tree.leaves(tree), gradients))


def _close(leaf: Any, was: Any) -> bool:
    return np.array_equal(leaf, was) or np.allclose(leaf, was, rtol=1e-6, atol=0)
