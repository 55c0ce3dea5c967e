"""A given norm that is infinite: the leaves decide whether they are finite."""

import math

import numpy as np
import pytest

import agclip
import arrays

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # array_api_strict uses NumPy


@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)


HUGE = {"float32": [3e38] * 4, "float64": [1.5e308] * 4, "float16": [6e4] * 4}


@pytest.fixture(params=HUGE)
def dtype(request, lib):
    if lib.name == "array_api_strict" and request.param == "float16":
        pytest.skip("array_api_strict has no half types")
    return request.param


def test_the_norm_of_finite_leaves_beyond_the_range_may_be_handed_back(lib, dtype):
    tree = [lib.array(HUGE[dtype], dtype)]
    clipped, _ = agclip.clip_by_global_norm(tree, 1.0, agclip.global_norm(tree))
    assert lib.entries(clipped[0]).tolist() == [0.5] * 4


@pytest.mark.parametrize("policy", ["propagate", "error", "zero", "skip"])
def test_an_infinite_norm_is_measured_again_under_every_policy(lib, policy):
    clipped, norm = agclip.clip_by_global_norm(
        [lib.array([3.0, 4.0])], 2.5, math.inf, nonfinite=policy
    )
    assert lib.entries(clipped[0]).tolist() == [1.5, 2.0]
    assert float(lib.entries(norm)) == 5


def test_an_infinite_norm_is_measured_again_in_the_order_and_the_loss_scale_asked_for(lib):
    clipped, norm = agclip.clip_by_global_norm(
        [lib.array([12.0, 16.0])], 3.5, math.inf, ord=1, loss_scale=4.0
    )
    assert lib.entries(clipped[0]).tolist() == [1.5, 2.0]
    assert float(lib.entries(norm)) == 7


def test_a_given_norm_beyond_the_range_with_the_loss_scale_is_measured_again(lib):
    x = lib.array([1e308] * 4, "float64")
    clipped, _ = agclip.clip_by_global_norm([x], 1e304, 1e306, loss_scale=1024.0)
    np.testing.assert_allclose(lib.entries(clipped[0]), [0.5e304] * 4, rtol=1e-14)


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [("propagate", [math.nan, math.nan]), ("zero", [0, 0]), ("skip", [math.inf, 3])],
)
def test_an_infinite_entry_is_found_again(lib, policy, wanted):
    tree = [lib.array([math.inf, 3.0])]
    clipped, norm = agclip.clip_by_global_norm(tree, 1.0, math.inf, nonfinite=policy)
    np.testing.assert_array_equal(lib.entries(clipped[0]), wanted)
    assert float(lib.entries(norm)) == math.inf


def test_in_place(lib):
    if lib.name not in arrays.WRITABLE:
        pytest.skip(f"{lib.name} has no arrays that can be overwritten")
    tree = [lib.array([3e38] * 4)]
    agclip.clip_by_global_norm_(tree, 1.0, math.inf)
    assert lib.entries(tree[0]).tolist() == [0.5] * 4


def test_inside_jax_jit():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    clip = jax.jit(lambda x, n: agclip.clip_by_global_norm([x], 1.0, n)[0][0])
    x = jax.numpy.asarray([3e38] * 4)
    assert np.asarray(clip(x, jax.numpy.asarray(np.inf))).tolist() == [0.5] * 4
    ones = jax.numpy.ones(4)
    assert np.asarray(clip(ones, jax.numpy.asarray(4.0))).tolist() == [0.25] * 4
