"""Loss scales whose product with the bound, or whose reciprocal, leaves the range."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import agclip
import arrays
from thinned import thinned

FLUSHES = ("jax",)
"""XLA on the CPU takes subnormal numbers for zero."""

FLUSHED = {("tensorflow", "axes"), ("tensorflow", "example")}
"""What TensorFlow's eager operations compute, which take subnormal numbers for zero, too."""

TINY = 2.0**-130
"""Subnormal in float32."""

# dtype, entries, bound, loss scale, and what comes out: all exact.
CASES = {
    "bound times scale overflows": ("float64", [1e308] * 4, 1.9e305, 1024.0, [0.95e305] * 4),
    "bound times scale underflows": ("float64", [3e-200, 4e-200], 5e-201, 1e-200, [3e-201, 4e-201]),
    "a tiny scale in float32": ("float32", [0.0, 2.0**-100], 1e10, 2.0**-130, [0.0, 2.0**30]),
    "a tiny scale, clipped": ("float32", [0.0, 2.0**-100], 1.0, 2.0**-130, [0.0, 1.0]),
    "a subnormal scale": ("float64", [0.0, 2.0**-1000], 1e99, 2.0**-1060, [0.0, 2.0**60]),
    "a subnormal scale, clipped": ("float64", [0.0, 2.0**-1000], 3.0, 2.0**-1060, [0.0, 3.0]),
    "a huge scale": ("float64", [3 * 2.0**1020], 1e99, 2.0**1023, [0.375]),
    "a huge scale, clipped": ("float64", [3 * 2.0**1020], 0.25, 2.0**1023, [0.25]),
    "a huge scale, float32": ("float32", [3 * 2.0**120], 1e99, 2.0**121, [1.5]),
    "subnormal entries and scale": ("float32", [0.0, TINY], 9.0, TINY, [0.0, 1.0]),
    "subnormal entries and scale, double": ("float64", [0.0, 5e-324], 9.0, 5e-324, [0.0, 1.0]),
}


def named(name):
    return name.replace(" ", "-").replace(",", "")


@pytest.fixture(params=thinned(arrays.LIBRARIES, keep=("numpy", "torch", "jax")))
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=CASES, ids=named)
def case(request, lib):
    if lib.name in FLUSHES and "subnormal" in request.param:
        pytest.skip("XLA on the CPU takes subnormal numbers for zero")
    return CASES[request.param]


def by_average(x, bound, loss_scale):
    return agclip.clip_by_average_norm(x, bound / math.prod(x.shape), loss_scale=loss_scale)


CLIPS = {
    "global": lambda x, c, s: agclip.clip_by_global_norm([x], c, loss_scale=s)[0][0],
    "leaf": lambda x, c, s: agclip.clip_by_norm(x, c, loss_scale=s),
    "axes": lambda x, c, s: agclip.clip_by_norm(x, c, axes=0, loss_scale=s),
    "average": by_average,
    "example": lambda x, c, s: agclip.clip_per_example(x[None, :], c, loss_scale=s)[0],
}


def is_quick(cell):
    """Tell whether `make test` runs a clip on a library: JAX compiles each for every case."""
    library, clip = cell
    return library in ("numpy", "torch") or (library == "jax" and clip in ("global", "axes"))


@pytest.mark.parametrize(
    ("lib", "clip"),
    thinned(itertools.product(arrays.LIBRARIES, CLIPS), is_quick, ids="-".join, tuples=True),
    indirect=["lib"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # array_api_strict computes with NumPy
def test_a_clip_is_right_for_any_loss_scale(lib, case, clip, request):
    if (lib.name, clip) in FLUSHED and "subnormal" in request.node.callspec.params["case"]:
        pytest.skip("TensorFlow's eager operations take subnormal numbers for zero")
    dtype, entries, bound, loss_scale, wanted = case
    got = lib.entries(CLIPS[clip](lib.array(entries, dtype), bound, loss_scale))
    np.testing.assert_allclose(got, np.array(wanted, dtype), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_norm_is_right_for_any_loss_scale(lib, case):
    dtype, entries, _, loss_scale, _ = case
    got = lib.entries(agclip.global_norm([lib.array(entries, dtype)], loss_scale=loss_scale))
    square = sum(Fraction(x) ** 2 for x in entries) / Fraction(loss_scale) ** 2
    unit = Fraction(float(np.finfo(dtype).eps))
    assert abs(Fraction(float(got)) ** 2 / square - 1) < 6 * unit


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_value_clip_keeps_zeros_under_a_tiny_loss_scale(lib):
    x = lib.array([0.0, 2.0**-100, 2.0**-102])
    got = lib.entries(agclip.clip_by_value(x, -(2.0**29), 2.0**29, loss_scale=2.0**-130))
    assert got.tolist() == [0.0, 2.0**29, 2.0**28]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("clip", CLIPS)
def test_a_scale_below_the_range_of_a_device_without_float64_keeps_zeros(clip):
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    x = strict.asarray([0.0, 0.0], dtype=strict.float32, device=strict.Device("no_x64"))
    got = CLIPS[clip](x, 1.0, 2.0**-200)
    assert [float(got[i]) for i in range(2)] == [0.0, 0.0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("exponent", [-300, -30, -3, 3, 30, 300])
def test_a_strict_bound_holds_for_any_loss_scale(lib, exponent):
    scale = 10.0**exponent
    rng = np.random.default_rng(exponent + 300)
    x = rng.standard_normal(100) * scale
    bound = 1.3
    got = lib.entries(
        agclip.clip_by_norm(lib.array(x, "float64"), bound, strict=True, loss_scale=scale)
    )
    square = sum(Fraction(v) ** 2 for v in got.tolist())
    assert Fraction(bound) ** 2 * (1 - Fraction(1, 2**40)) < square <= Fraction(bound) ** 2
