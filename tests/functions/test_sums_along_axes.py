"""Norms along axes in float64: as good along leading axes as along trailing ones, in any layout."""

import math
from fractions import Fraction

import numpy as np
import pytest

import agclip
import arrays
from oracle.functions import ulps
from oracle.norm import root
from thinned import thinned

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # array_api_strict uses NumPy

# The shape, the axes, and the order of the axes in memory. Enough entries for a sum in a row to
# be tens of units off.
LAYOUTS = {
    "leading": ((4000, 2), (0,), (0, 1)),
    "leading, columns in memory": ((4000, 2), (0,), (1, 0)),
    "trailing": ((2, 4000), (1,), (0, 1)),
    "trailing, columns in memory": ((2, 4000), (1,), (1, 0)),
    "outer two": ((1300, 2, 3), (0, 2), (0, 1, 2)),
    "outer two, few rows": ((15, 2, 64), (0, 2), (0, 1, 2)),
    "outer two, turned": ((1300, 2, 3), (0, 2), (2, 1, 0)),
    "middle": ((2, 4000, 3), (1,), (0, 1, 2)),
    "first of three": ((500, 40, 2), (0, 1), (0, 1, 2)),
    "longer than a block": ((40000, 2), (0,), (0, 1)),
}
VALUES = (0.1, 0.3, 0.7)


def named(name):
    return name.replace(" ", "-").replace(",", "")


@pytest.fixture(params=thinned(arrays.LIBRARIES, keep=("numpy", "torch", "jax")))
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=LAYOUTS, ids=named)
def layout(request):
    return LAYOUTS[request.param]


@pytest.fixture(params=VALUES)
def value(request):
    return request.param


def leaf_of(lib, layout, value):
    """Return equal numbers, for which roundings do not cancel, and how many share a norm."""
    shape, axes, memory = layout
    inverse = np.argsort(memory)
    x = np.full([shape[axis] for axis in memory], value).transpose(inverse)
    return lib.convert(x), math.prod(shape[axis] for axis in axes)


def squares(x, axes):
    """Return the exact sum of squares of the first slice along axes."""
    kept = tuple(slice(None) if axis in axes else 0 for axis in range(x.ndim))
    values, counts = np.unique(x[kept], return_counts=True)
    return sum(n * Fraction(v) ** 2 for v, n in zip(values.tolist(), counts.tolist(), strict=True))


def test_a_strict_bound_holds_along_any_axes(lib, layout, value):
    x, _ = leaf_of(lib, layout, value)
    got = lib.entries(agclip.clip_by_norm(x, 1.0, axes=layout[1], strict=True))
    # κ and the margin shrink a float64 bound by 16 units of roundoff.
    assert 1 - Fraction(1, 2**46) < squares(got, layout[1]) <= 1


def test_a_strict_clip_along_any_axes_is_idempotent(lib, layout):
    x, _ = leaf_of(lib, layout, 0.1)
    once = agclip.clip_by_norm(x, 1.0, axes=layout[1], strict=True)
    twice = agclip.clip_by_norm(once, 1.0, axes=layout[1], strict=True)
    assert lib.entries(once).tobytes() == lib.entries(twice).tobytes()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_norm_along_any_axes_is_right_to_three_units(lib, layout, value, order):
    x, count = leaf_of(lib, layout, value)
    exact = root(count * Fraction(value) ** order, order)
    # The one entry that a bound of half the norm leaves of each shows the norm.
    got = lib.entries(agclip.clip_by_norm(x, float(exact) / 2, axes=layout[1], ord=order))
    coefficient = float(exact) / 2 / exact
    assert ulps(float(got.flat[0]), Fraction(value) * Fraction(coefficient), "float64") <= 4


@pytest.mark.parametrize("axes", [0, (0, 2)])
def test_units_and_derivatives_along_leading_axes(axes):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    with jax.enable_x64(True):
        x = jax.numpy.asarray(np.random.default_rng(0).standard_normal((50, 2, 3)))

        def loss(x):
            return (agclip.clip_by_norm(x, 1.0, axes=axes) * x).sum()

        def by_hand(x):
            return (x * x / jax.numpy.sqrt((x * x).sum(axis=axes, keepdims=True))).sum()

        np.testing.assert_allclose(jax.grad(loss)(x), jax.grad(by_hand)(x), rtol=1e-12)
