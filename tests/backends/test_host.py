"""Arrays in host memory, with and without compiled kernels: every number is right."""

import functools
import math

import numpy as np
import pytest

import agclip
import hosts
from oracle import functions as reference

pytest_plugins = ["host_fixtures"]

SIZES = (0, 1, hosts.BLOCK - 1, hosts.BLOCK, hosts.BLOCK + 1, 300_000)
ORDERS = (1, 2, math.inf)
MIXED = (
    ("float32", hosts.BLOCK + 1),
    ("bfloat16", 7),
    ("complex64", 3),
    ("float16", 0),
    ("float64", 2 * hosts.BLOCK),
    ("float16", 300),
    ("complex128", hosts.BLOCK),
)


@pytest.fixture(params=hosts.DTYPES)
def dtype(request):
    return request.param


@pytest.fixture(params=hosts.REAL)
def real_dtype(request):
    return request.param


@pytest.fixture(params=SIZES)
def size(request):
    return request.param


def exact_norm(leaves, order):
    """Return the norm of leaves of NumPy, right to a few units of float64."""
    if order == 2:
        squares = [hosts.parts(x) ** 2 for x in leaves]
        return math.sqrt(math.fsum(np.concatenate(squares)))
    sizes = [abs(x.astype(complex if x.dtype.kind == "c" else float)) for x in leaves]
    joined = np.concatenate(sizes)
    return float(max(joined, default=0.0)) if order == math.inf else math.fsum(joined)


@functools.cache
def norm_of(dtype, size, order):
    return exact_norm([hosts.drawn(dtype, size)], order)


def matches(got, wanted):
    """Tell whether a result has the right bits; of float64, whether it is right to two units."""
    assert got.dtype == wanted.dtype
    if wanted.dtype.name in ("float64", "complex128"):
        return np.allclose(hosts.parts(got), hosts.parts(wanted), rtol=2.0**-51, atol=0)
    return hosts.bits(got) == hosts.bits(wanted)


@pytest.mark.parametrize("order", ORDERS)
def test_a_norm_is_right_to_a_unit_in_the_last_place(host, dtype, size, order):
    norm = agclip.global_norm([host.copy(hosts.drawn(dtype, size))], order)
    double = dtype in ("float64", "complex128")
    assert str(norm.dtype).endswith("float64" if double else "float32")
    exact = norm_of(dtype, size, order)
    tolerance = 2.0**-51 if double else 2.0**-23
    assert float(norm) == pytest.approx(exact, rel=tolerance, abs=0)


def test_a_clip_multiplies_by_one_rounded_coefficient(host, dtype, size):
    x = hosts.drawn(dtype, size)
    norm = norm_of(dtype, size, 2)
    clipped = agclip.clip_by_norm(host.copy(x), 0.3 * norm)
    assert matches(host.entries(clipped), hosts.scaled(x, 0.3 * norm / norm if size else 1.0))


def test_a_clip_in_place_does_the_same(host, dtype, size):
    x = hosts.drawn(dtype, size)
    norm, leaf = norm_of(dtype, size, 2), host.copy(x)
    assert agclip.clip_by_norm_(leaf, 0.3 * norm) is leaf
    assert matches(host.entries(leaf), hosts.scaled(x, 0.3 * norm / norm if size else 1.0))


def test_entries_are_clipped_to_bounds_rounded_to_their_dtype(host, real_dtype, size):
    x = hosts.drawn(real_dtype, size)
    low, high = (np.asarray(bound).astype(x.dtype) for bound in (-0.1, 0.7))
    clipped = agclip.clip_by_value(host.copy(x), -0.1, 0.7)
    wanted = np.minimum(np.maximum(x, low), high)
    assert hosts.bits(host.entries(clipped)) == hosts.bits(wanted)


def test_entries_are_clipped_in_place(host, real_dtype, size):
    leaf = host.copy(hosts.drawn(real_dtype, size))
    wanted = agclip.clip_by_value(leaf, -0.1, 0.7)
    assert agclip.clip_by_value_(leaf, -0.1, 0.7) is leaf
    assert hosts.bits(host.entries(leaf)) == hosts.bits(host.entries(wanted))


def test_leaves_of_many_dtypes_and_sizes_are_clipped_by_one_norm(host):
    leaves = [hosts.drawn(name, size) for name, size in MIXED]
    exact = exact_norm(leaves, 2)
    tree = dict(enumerate(map(host.copy, leaves))) | {"none": None}
    clipped, norm = agclip.clip_by_global_norm(tree, exact / 7)
    assert float(norm) == pytest.approx(exact, rel=2.0**-51)
    assert clipped.pop("none") is None
    got = [host.entries(leaf) for leaf in clipped.values()]
    wanted = [hosts.scaled(x, exact / 7 / exact) for x in leaves]
    assert all(map(matches, got, wanted))


def test_leaves_of_many_sizes_are_clipped_each_by_its_own_norm(host):
    leaves = [hosts.drawn("float32", size) for size in (5, 0, hosts.BLOCK + 3, 1, 40_000)]
    got = [host.entries(leaf) for leaf in agclip.clip_by_norm([*map(host.copy, leaves)], 0.25)]
    norms = [exact_norm([x], 2) for x in leaves]
    wanted = [
        hosts.scaled(x, min(1.0, 0.25 / n) if n else 1) for x, n in zip(leaves, norms, strict=True)
    ]
    assert all(map(matches, got, wanted))


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("policy", ["propagate", "zero", "skip"])
def test_a_leaf_in_a_list_is_clipped_as_it_is_alone(host, policy, inplace):
    """Some beyond the bound, some within, some not finite, empty, tiny or of several blocks."""
    special = [np.asarray(x, "float32") for x in ([np.nan, 1], [np.inf, -1], [], [1e-39, 1e-45])]
    values = [*(hosts.drawn(*row) for row in MIXED), *special, np.asarray([1e300, 2.0])]
    clip = agclip.clip_by_norm_ if inplace else agclip.clip_by_norm
    leaves = [host.copy(x) for x in values]
    together = clip(leaves, 0.25, nonfinite=policy)
    alone = [clip(host.copy(x), 0.25, nonfinite=policy) for x in values]
    got, wanted = ([hosts.bits(host.entries(x)) for x in each] for each in (together, alone))
    assert got == wanted
    assert [a is b for a, b in zip(together, leaves, strict=True)] == [
        inplace or bits == hosts.bits(x) for bits, x in zip(got, values, strict=True)
    ]


@pytest.mark.parametrize("order", ORDERS)
def test_a_small_mixed_tree_agrees_with_the_oracle(host, order):
    names = ("float32", "float64", "float16", "bfloat16", "complex64")
    leaves = [hosts.drawn(name, n, seed=5) for n, name in enumerate(names, 2)]
    exact = [reference.tensor([z.item() for z in widened(x)]) for x in leaves]
    wanted, norm = reference.clip_by_global_norm(exact, 0.5, ord=order)
    clipped, got = agclip.clip_by_global_norm([*map(host.copy, leaves)], 0.5, ord=order)
    assert reference.ulps(float(got), norm, "float64") <= 2
    errors = [
        reference.worst_ulps(
            reference.tensor([z.item() for z in widened(host.entries(leaf))]),
            tensor,
            {"complex64": "float32"}.get(name, name),
        )
        for name, leaf, tensor in zip(names, clipped, wanted, strict=True)
    ]
    assert max(errors) <= 3  # two of the norm, half of the quotient, half of the product


def widened(x):
    return x.astype(complex if x.dtype.kind == "c" else float)


@pytest.mark.parametrize("bound", [0.1, 1e9], ids=["clipped", "within"])
def test_a_loss_scale_is_divided_by_in_the_same_multiplication(host, dtype, bound):
    x = hosts.drawn(dtype, hosts.BLOCK + 1)
    exact = norm_of(dtype, hosts.BLOCK + 1, 2)
    (clipped,), norm = agclip.clip_by_global_norm([host.copy(x)], bound, loss_scale=3.0)
    assert float(norm) == pytest.approx(exact / 3, rel=2.0**-23)
    factor = bound / exact if bound < 1 else 1 / 3
    assert matches(host.entries(clipped), hosts.scaled(x, factor))


@pytest.mark.parametrize("size", [3.0, 2.0**600, 2.0**-600, 2.0**-1070], ids=repr)
def test_norms_of_float64_neither_overflow_nor_underflow(host, size):
    leaf = host.array(np.full(hosts.BLOCK * 4, size), "float64")
    clipped, norm = agclip.clip_by_global_norm([leaf], 64 * size)
    assert float(norm) == 256 * size
    assert np.all(host.entries(clipped[0]) == size / 4)


@pytest.fixture(
    params=[(0, math.nan), (hosts.BLOCK - 1, math.inf), (hosts.BLOCK + 40, -math.inf)],
    ids=lambda pair: f"{pair[1]}-at-{pair[0]}",
)
def spoilt(request, dtype):
    """Numbers one of which is not finite."""
    x = hosts.drawn(dtype, hosts.BLOCK + 41).copy()
    place, value = request.param
    x[place] = value
    return x


@pytest.mark.parametrize("order", ORDERS)
def test_a_norm_tells_of_every_entry_that_is_not_finite(host, spoilt, order):
    norm = float(agclip.global_norm([host.of(spoilt)], order))
    assert math.isnan(norm) if np.isnan(spoilt).any() else norm == math.inf


POLICIES = {
    "propagate": lambda x: np.full_like(x, np.nan),
    "zero": np.zeros_like,
    "skip": lambda x: x,
}


@pytest.fixture(params=POLICIES)
def policy(request):
    return request.param


def test_what_becomes_of_leaves_that_are_not_finite(host, spoilt, policy):
    wanted = hosts.bits(np.abs(POLICIES[policy](spoilt).real))
    clipped = agclip.clip_by_norm(host.copy(spoilt), 1.0, nonfinite=policy)
    leaf = host.copy(spoilt)
    agclip.clip_by_norm_(leaf, 1.0, nonfinite=policy)
    assert hosts.bits(np.abs(host.entries(clipped).real)) == wanted
    assert hosts.bits(np.abs(host.entries(leaf).real)) == wanted


def test_an_error_names_the_leaf_and_nothing_is_written(host, spoilt):
    leaf = host.copy(spoilt)
    with pytest.raises(FloatingPointError, match=r"got (NaN|an infinity) at t\[1\]"):
        agclip.clip_by_norm_([host.array([3.0]), leaf], 1.0, nonfinite="error")
    assert hosts.bits(host.entries(leaf)) == hosts.bits(spoilt)


@pytest.mark.parametrize("place", [0, hosts.BLOCK])
def test_a_value_clip_keeps_nan_and_bounds_infinities(host, real_dtype, place):
    x = hosts.drawn(real_dtype, hosts.BLOCK + 41).copy()
    x[place], x[7], x[8] = math.nan, math.inf, -math.inf
    clipped = host.entries(agclip.clip_by_value(host.of(x), -2.0, 3.0)).astype(float)
    assert np.flatnonzero(np.isnan(clipped)).tolist() == [place]
    assert clipped[[7, 8]].tolist() == [3.0, -2.0]
