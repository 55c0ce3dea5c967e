"""The fused CUDA kernels, compiled for the host and run on NumPy's memory: what they compute."""

import itertools
import math

import numpy as np
import pytest

import agclip
import fused_host
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.fused_source import ACTIVE, AGAIN, ERASED, FINITE, LIMITED, RECORD
from agclip_backends._cuda.source import CHUNK
from agclip_backends._cuda.table import Terms
from fused_cases import (
    EACH,
    NARROW,
    SIZES,
    agrees,
    differing,
    dtype_named,
    entries,
    like_the_kernel,
    moved,
    state,
)

pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
pytest_plugins = ["fused_fixtures"]


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_a_sum_is_formed_in_the_order_written_down(room, narrow, size, offset):
    x = entries(narrow, size)
    done = room.clip([moved(x, offset)], None, Terms(), math.inf)
    assert done.record[0] == math.sqrt(like_the_kernel(x))


def test_neither_blocks_nor_threads_nor_grids_change_a_bit(library, dtype):
    leaves = [entries(dtype, n, n) for n in (5, 4 * CHUNK + 3, CHUNK, 0, 9 * CHUNK)]
    records = set()
    for seed, backward, blocks in itertools.product(range(3), (False, True), (0, 1, 2)):
        room = Room(fused_host.HostLibrary(library, seed=seed, backward=backward))
        room.norm_blocks = blocks
        records.add(room.clip(leaves, None, Terms(), math.inf).record[:7].tobytes())
    assert len(records) == 1


@pytest.mark.parametrize("bound", [1.5, 1e9, 0.0])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_a_joint_clip_has_the_bits_of_numpys(room, narrow, bound, offset):
    leaves = [moved(entries(narrow, n, n), offset) for n in SIZES]
    agrees(room, leaves, bound)


@pytest.mark.parametrize("bound", [1.5, 1e9])
def test_leaves_of_all_dtypes_go_together(room, host_library, bound):
    names = [*NARROW, "float64"]
    leaves = [
        moved(entries(dtype_named(name), n, n), i % 5)
        for i, (n, name) in enumerate(itertools.product(SIZES, names))
    ]
    agrees(room, leaves, bound, exact=False)
    assert host_library.launches == ["agclip_norm_2", "agclip_norm_2_again", "agclip_product"] * 2


def test_complex_leaves_are_twice_as_many_numbers(room):
    x = (entries("float32", 300) + 1j * entries("float32", 300, 1)).astype(np.complex64)
    wanted, norm = agclip.clip_by_global_norm([x.copy()], 1.0)
    done = room.clip([x], None, Terms(), 1.0)
    assert done.norm == norm
    assert x.tobytes() == wanted[0].tobytes()


def test_two_launches_are_enough(room, host_library, narrow):
    room.clip([entries(narrow, 100) for _ in range(200)], None, Terms(), 1.0)
    assert host_library.launches == ["agclip_norm_2", "agclip_product"]


def test_nothing_beyond_a_leaf_is_written(room, dtype):
    memory = entries(dtype, 3 * CHUNK)
    before = memory.copy()
    leaves = [memory[3 : CHUNK + 14], memory[CHUNK + 14 : CHUNK + 15], memory[CHUNK + 16 : -5]]
    room.clip(leaves, None, Terms(), 1e-3)
    rest = np.r_[0:3, CHUNK + 15 : CHUNK + 16, len(memory) - 5 : len(memory)]
    assert memory[rest].tobytes() == before[rest].tobytes()
    assert np.delete(memory, rest).tobytes() != np.delete(before, rest).tobytes()


@pytest.mark.parametrize("policy", ["propagate", "zero", "skip"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("loss_scale", [None, 8.0])
def test_what_becomes_of_numbers_that_are_not_finite(room, narrow, policy, value, loss_scale):
    leaves = [entries(narrow, n, n) for n in (100, CHUNK + 5, 0)]
    leaves[1][CHUNK + 1] = value
    done = agrees(room, leaves, 1.0, nonfinite=policy, loss_scale=loss_scale)
    assert not state(done) & FINITE
    assert bool(state(done) & ERASED) == (policy == "zero")
    assert bool(state(done) & LIMITED) == (policy != "skip")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("loss_scale", [None, 0.37, 1e30, 1e-30])
@pytest.mark.parametrize("share", [0.9, 2.0, 0.0])
def test_loss_scales_and_strict_bounds(room, narrow, strict, loss_scale, share):
    leaves = [entries(narrow, n, n) for n in (CHUNK + 9, 33)]
    norm = math.sqrt(sum((x.astype(float) ** 2).sum() for x in leaves))
    bound = float(np.float32(share * norm))
    agrees(room, leaves, bound, loss_scale=loss_scale, strict=strict)


@pytest.mark.parametrize("loss_scale", [None, 3.0, 1e200])
@pytest.mark.parametrize("power", [0, 600, -600, -1060])
@pytest.mark.parametrize("bound", [1.0, 2.0**590, 2.0**-610])
def test_float64_whose_squares_leave_the_range_is_read_again(room, power, bound, loss_scale):
    leaves = [entries("float64", n, n) * 2.0**power for n in (2 * CHUNK + 3, 100)]
    done = agrees(room, leaves, bound, exact=False, loss_scale=loss_scale)
    assert (done.record[1] != 1) == (power != 0)
    assert not state(done) & AGAIN


def test_only_leaves_out_of_range_are_scaled(room):
    leaves = [entries("float64", 1000, i) * s for i, s in enumerate((1, 2.0**600, 2.0**-700))]
    leaves.append(entries("float32", 10))
    wanted = agclip.clip_by_norm([x.copy() for x in leaves], 1.0)
    done = room.clip(leaves, None, EACH, 1.0)
    assert done.record[1::RECORD][:4].tolist() == [1, 2.0**-600, 2.0**620, 1]
    for x, y in zip(leaves, wanted, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-14)


def test_zeros_stay_zeros(room, dtype):
    leaves = [np.zeros(n, dtype) for n in (0, 5, CHUNK + 1)]
    leaves[1][2] = -0.0
    before = [x.tobytes() for x in leaves]
    done = room.clip(leaves, None, Terms(), 1.0)
    assert done.norm == 0
    assert [x.tobytes() for x in leaves] == before
    assert not state(done) & ACTIVE


def test_subnormal_numbers_are_kept(room):
    tiny = np.array([1e-45, -1e-40, 1.1754942e-38, 0.5, -0.0], np.float32)
    for bound in (100.0, 0.3, 1e-30, 1e-44):
        agrees(room, [tiny.copy()], bound)
    agrees(room, [np.full(1000, 1e-40, np.float32)], 1e-42)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_all_numbers_of_half_types_are_rounded_as_numpys_are(room, name):
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype_named(name))
    x = x[np.isfinite(x.astype(np.float32))]
    agrees(room, [x], float(np.linalg.norm(x.astype(float))) * 0.7)


def test_each_leaf_has_its_own_norm(room, host_library, narrow):
    leaves = [entries(narrow, n, n) for n in SIZES] * 20
    leaves = [x.copy() for x in leaves]
    weights = tuple(0.5 + i % 7 for i in range(len(leaves)))
    wanted = [agclip.clip_by_norm(x.copy(), 0.25 * w) for x, w in zip(leaves, weights, strict=True)]
    done = room.clip(leaves, None, EACH._replace(weights=weights), 0.25)
    assert sum(differing(x, y) for x, y in zip(leaves, wanted, strict=True)) == 0
    assert done.norm is None
    assert host_library.launches == ["agclip_norm_2", "agclip_product"]
    limited = [bool(state(done, i) & LIMITED) for i in range(len(SIZES))]
    assert limited == [n > 1 for n in SIZES] or limited[2:] == [True] * (len(SIZES) - 2)


@pytest.mark.parametrize("kind", ["float32", "float64", "float16"])
def test_numbers_may_lie_on_the_device(room, kind):
    leaves = [entries("float32", n, n) for n in (500, 20)]
    others = [x.copy() for x in leaves]
    bound, loss = np.full((), 0.5, kind), np.full((), 4.0, kind)
    here = room.clip(leaves, None, Terms(), bound, loss)
    there = room.clip(others, None, Terms(), 0.5, 4.0)
    assert here.record[:7].tobytes() == there.record[:7].tobytes()
    assert [x.tobytes() for x in leaves] == [x.tobytes() for x in others]


@pytest.mark.parametrize(("bound", "left"), [(-1.0, 0.0), (np.nan, np.nan)])
def test_a_bound_on_the_device_below_zero_is_zero_and_nan_gives_nan(room, bound, left):
    x = np.ones(10, np.float32)
    room.clip([x], None, Terms(), np.full((), bound))
    np.testing.assert_array_equal(x, np.full(10, left, np.float32))


@pytest.mark.parametrize("order", [1.0, math.inf])
@pytest.mark.parametrize("value", [None, np.nan, np.inf])
def test_norms_of_the_other_orders(room, narrow, order, value):
    leaves = [entries(narrow, n, n) for n in (100, 0, 3 * CHUNK + 5)]
    if value is not None:
        leaves[2][CHUNK + 5] = value
    wanted = agclip.global_norm([x.copy() for x in leaves], ord=order)
    copies = [x.copy() for x in leaves]
    done = room.clip(copies, None, Terms(order=order), 0.5)
    np.testing.assert_allclose(done.norm, wanted, rtol=0 if order > 2 else 2.0**-23)
    finite = agclip.clip_by_norm(leaves[0].copy(), 0.5, ord=order)
    room.clip(leaves[:1], None, Terms(order=order), 0.5)
    assert differing(leaves[0], finite) == 0


@pytest.mark.parametrize("order", [1.0, 3.0])
def test_orders_that_are_not_covered_are_left_alone(room, host_library, order):
    x = np.ones(3)
    assert room.clip([x], None, Terms(order=order), 0.5) is None
    assert host_library.launches == []


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_entries_are_bounded_in_one_launch(room, host_library, dtype, offset):
    low, high = (float(np.asarray(x).astype(dtype)) for x in (-0.3, 0.7))
    leaves = [moved(entries(dtype, n, n), offset) for n in SIZES]
    leaves[3][:4] = np.nan, np.inf, -np.inf, -0.0
    wanted = agclip.clip_by_value([x.copy() for x in leaves], low, high)
    targets = [np.full_like(x, 7) for x in leaves]
    assert room.within(leaves, targets, (low,) * 4, (high,) * 4)
    assert room.within(leaves, None, (low,) * 4, (high,) * 4)
    for found in (leaves, targets):
        assert sum(differing(x, y) for x, y in zip(found, wanted, strict=True)) == 0
    assert host_library.launches == ["agclip_within"] * 2
