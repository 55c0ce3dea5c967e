"""Norms of any order in float64, at the limit that is promised: 3 units, 3/ord below order 1."""

import decimal
import functools
import math
from decimal import Decimal

import numpy as np
import pytest

import agclip
import arrays
import hosts

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # array_api_strict uses NumPy

ORDERS = (1, 1.5, 2, 2.5, 3, 7, 100, 0.5, 0.25, 0.1, 0.01)
# Values and how often they occur: equal ones, for which roundings do not cancel, and few large.
MIXES = {
    "equal": {1.1: 30000},
    "equal, another": {0.7371: 30000},
    "two": {0.3: 20000, 0.77: 12345},
    "one large": {1e-3: 30000, 1.3: 1},
    "one very large": {1.7e-9: 30000, 1.3: 1},
}
EXACTLY = decimal.Context(prec=60, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
WAYS = (
    "numpy",
    "numpy+numba",
    "torch",
    "torch+numba",
    "autograd",
    "jax",
    "dask",
    "array_api_strict",
)


def exact(mix, order):
    """Return the norm of values, each as often as it occurs."""
    return _exact(tuple(mix.items()), order)


@functools.cache
def _exact(mix, order):
    p, c = Decimal(order), EXACTLY
    powers = [c.multiply(n, c.exp(c.multiply(p, c.ln(Decimal(v))))) for v, n in mix]
    total = Decimal(0)
    for power in powers:
        total = c.add(total, power)
    return c.exp(c.divide(c.ln(total), p))


def units_off(got, true):
    if float(true) == math.inf:
        return 0 if got == math.inf else math.inf
    return float(abs(EXACTLY.subtract(Decimal(got), true)) / Decimal(math.ulp(float(true))))


@pytest.fixture(params=MIXES, ids=lambda name: name.replace(", ", "-").replace(" ", "-"))
def mix(request):
    return MIXES[request.param]


@pytest.fixture(params=WAYS)
def norm(request):
    """A function that returns the norm of arrays of NumPy, as a float."""
    library, _, mode = request.param.partition("+")
    lib = arrays.library("torch" if library == "autograd" else library)

    def measured(leaves, order):
        tree = [lib.convert(x) for x in leaves]
        if library == "autograd":
            tree = [x.requires_grad_() for x in tree]
        return float(lib.entries(agclip.global_norm(tree, ord=order)))

    with hosts.accelerated(mode or "off"):
        yield measured


def entries(mix, dtype="float64"):
    return np.concatenate([np.full(n, v, dtype) for v, n in mix.items()])


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_keeps_its_limit_in_float64(norm, mix, order):
    off = units_off(norm([entries(mix)], order), exact(mix, order))
    assert off <= 3 / min(order, 1)


@pytest.mark.parametrize("order", [1, 1.5, 2, 3])
def test_float32_beside_float64_is_as_good_as_float64_alone(norm, mix, order):
    leaf = entries(mix, "float32")
    values, counts = np.unique(leaf, return_counts=True)
    both = dict(zip(map(float, values), map(int, counts), strict=True)) | {0.625: 1}
    off = units_off(norm([leaf, np.array([0.625])], order), exact(both, order))
    assert off <= 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_equal_entries_beside_a_float64_leaf(dtype):
    leaf = np.full(10**6, 0.7, dtype)
    mix = {float(leaf[0]): leaf.size, 0.625: 1}
    got = float(agclip.global_norm([leaf, np.array([0.625])]))
    assert units_off(got, exact(mix, 2)) <= 3


@pytest.mark.parametrize("order", [1, 0.5, 3])
@pytest.mark.parametrize("size", [1e308, 1e200, 1e-200, 1e-310])
def test_orders_hold_over_the_whole_range(norm, order, size, request):
    if size == 1e-310 and "jax" in request.node.name:
        pytest.skip("XLA on the CPU takes subnormal numbers for zero")
    true = exact({size: 7}, order)
    assert units_off(norm([np.full(7, size)], order), true) <= 3 / min(order, 1)


@pytest.mark.parametrize("order", ["inf", math.inf])
def test_infinity_may_be_a_word(order):
    x = np.asarray([3.0, -4.0])
    assert agclip.global_norm([x], ord=order) == 4
    assert agclip.clip_by_norm(x, 2.0, ord=order).tolist() == [1.5, -2.0]
    assert agclip.clip_by_global_norm([x], 2.0, ord=order)[0][0].tolist() == [1.5, -2.0]
    assert agclip.Clipper(agclip.ClipByNorm(2.0, ord=order))(x)[0].tolist() == [1.5, -2.0]
    clipper = agclip.Clipper(agclip.ClipByGlobalNorm(2.0, ord=order))
    assert clipper([x])[0][0].tolist() == [1.5, -2.0]
