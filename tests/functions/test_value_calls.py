"""A number as the bound of many leaves: rounded once for each dtype and device, told apart once."""

import fractions

import numpy as np
import pytest

import agclip
import arrays
import hosts

pytest_plugins = ["host_fixtures"]

DTYPES = ("float16", "float32", "float64")
ODD = {
    "float": 0.1,
    "fraction": fractions.Fraction(1, 10),
    "scalar": np.float64(0.1),
    "narrow scalar": np.float32(0.1),
    "beyond the range": 10**400,
    "tiny": 1e-320,
    "infinite": float("inf"),
}


@pytest.fixture(params=["new", "in place"])
def clip(request):
    return agclip.clip_by_value if request.param == "new" else agclip.clip_by_value_


@pytest.mark.parametrize("bound", ODD.values(), ids=lambda bound: type(bound).__name__)
def test_leaves_of_one_tree_are_clipped_as_each_alone(host, clip, bound):
    entries = [np.nan, -0.0, 0.0, 0.1, -0.1, 0.1000001, 3.0, -np.inf]
    rows = [np.array(entries, dtype) for dtype in DTYPES]
    alone = [agclip.clip_by_value(row, -bound, bound) for row in rows]
    together = clip([host.copy(row) for row in rows * 2], -bound, bound)
    assert [hosts.bits(host.entries(leaf)) for leaf in together] == [*map(hosts.bits, alone * 2)]


def test_zero_as_a_bound_leaves_zeros_of_either_sign(host, clip):
    zeros = np.array([0.0, -0.0, -1.0], np.float32)
    (clipped,) = clip([host.copy(zeros)], 0.0, 1.0)
    assert hosts.bits(host.entries(clipped)) == hosts.bits(np.array([0.0, -0.0, 0.0], np.float32))


def test_leaves_larger_than_a_block_are_clipped_beside_small_ones(host, clip):
    rows = [np.linspace(-3, 3, n, dtype=np.float32) for n in (hosts.BLOCK * 3 + 5, 7)]
    clipped = clip([host.copy(row) for row in rows], None, 1.0, loss_scale=2.0)
    wanted = [np.minimum(row / 2, np.float32(1)) for row in rows]
    assert [hosts.bits(host.entries(leaf)) for leaf in clipped] == [*map(hosts.bits, wanted)]


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (None, 1.0), (-1.0, None)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormal_entries_within_the_bounds_keep_their_bits_in_compiled_code(bounds, dtype):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    x = np.array([np.finfo(dtype).smallest_subnormal, np.finfo(dtype).tiny / 2, 3.0, -3.0], dtype)
    with jax.enable_x64(True):
        clipped = agclip.clip_by_value(jax.numpy.asarray(x), *bounds)
    assert hosts.bits(np.asarray(clipped)) == hosts.bits(np.clip(x, *bounds))


@pytest.mark.parametrize("bounds", [(None, None), (-9.0, 9.0)])
def test_new_leaves_share_no_memory_with_the_old(bounds, accelerate):
    old = np.ones(3)
    (new,) = agclip.clip_by_value([old], *bounds)
    assert not np.shares_memory(new, old)


@pytest.mark.parametrize("bound", [0.5, np.array(0.5)], ids=["number", "array"])
def test_the_first_leaf_of_integers_is_named(accelerate, clip, bound):
    tree = [np.ones(2), np.ones(2, np.int16), np.ones(2, np.int8), np.ones(2, np.int16)]
    with pytest.raises(TypeError, match=r"must be an integer for int16 at t\[1\]; got "):
        clip(tree, None, bound)


def test_each_device_has_its_own_bound():
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    devices = [strict.Device(name) for name in ("CPU_DEVICE", "device1", "CPU_DEVICE")]
    clipped = agclip.clip_by_value([strict.asarray([3.0], device=d) for d in devices], -1.0, 1.0)
    assert [leaf.device for leaf in clipped] == devices
    assert [float(strict.asarray(leaf, device=devices[0])[0]) for leaf in clipped] == [1.0] * 3


HALVING = {
    "leaf": (agclip.clip_by_norm_, 2.5),
    "global": (agclip.clip_by_global_norm_, 2.5 * 2**0.5),
    "value": (lambda t, c: agclip.clip_by_value_(t, None, 1e9, loss_scale=2.0), None),
}


@pytest.mark.parametrize(("function", "bound"), HALVING.values(), ids=HALVING)
def test_arrays_without_a_hash_are_told_apart_where_nothing_can_be_read(tmp_path, function, bound):
    leaf = np.array([3.0, 4.0])
    with arrays.registry(tmp_path):
        xp = agclip.get_backend("numpy").xp
        agclip.register_backend(agclip.Backend(name="numpy", xp=xp, access=lambda _: "never"))
        function([leaf, leaf], bound)
    assert leaf.tolist() == pytest.approx([1.5, 2.0])
