"""The fused CUDA kernels, compiled for the host and run on NumPy's memory."""

import itertools
import math

import numpy as np
import pytest

import agclip
import fused_host
from agclip._coefficient import strict_shrink
from agclip._dtypes import kind_named
from agclip_backends import _fused, _fused_table
from agclip_backends._cuda_source import CHUNK, THREADS
from agclip_backends._fused import Room
from agclip_backends._fused_source import ACTIVE, AGAIN, ERASED, FINITE, INLINE, LIMITED, RECORD
from agclip_backends._fused_table import Terms

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")

NARROW = ["float16", "bfloat16", "float32"]
SIZES = [0, 1, 7, 100, 8 * THREADS, CHUNK - 1, CHUNK, 3 * CHUNK + 77]
EACH = Terms(joint=False)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    if fused_host.COMPILER is None:
        pytest.skip("there is no C++ compiler here")
    return fused_host.build(tmp_path_factory.mktemp("fused"))


@pytest.fixture
def host(library):
    return fused_host.HostLibrary(library)


@pytest.fixture
def room(host):
    return Room(host)


@pytest.fixture(params=[*NARROW, "float64"])
def dtype(request):
    return dtype_named(request.param)


@pytest.fixture(params=NARROW)
def narrow(request):
    return dtype_named(request.param)


def dtype_named(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def entries(dtype, size, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(size) * 10.0 ** rng.integers(-3, 3, size)).astype(dtype)


def moved(x, offset):
    """A copy at an address that is so many entries off a multiple of 16 bytes."""
    memory = np.empty(x.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 16 + offset * x.itemsize
    copy = memory[start : start + x.nbytes].view(x.dtype)
    copy[...] = x
    return copy


def differing(a, b):
    """How many entries differ, NaN taken as NaN."""
    word = {2: np.uint16, 4: np.uint32, 8: np.uint64}[a.itemsize]
    nan = np.isnan(a.astype(float)) & np.isnan(b.astype(float))
    return int(((a.view(word) != b.view(word)) & ~nan).sum())


def state(clipped, group=0):
    return int(clipped.record.view(np.int64)[RECORD * group + 7])


def like_the_kernel(x):
    """The sum of squares of float32 or narrower entries in the order that the source promises."""
    size, v, partial = 16 // x.itemsize, x.astype(np.float64), []

    def tree(s):
        while len(s) > 1:
            s = s[: len(s) // 2] + s[len(s) // 2 :]
        return s[0]

    def rows(values, width):
        return np.pad(values, (0, -len(values) % width)).reshape(-1, width)

    for start in range(0, len(v), CHUNK):
        sums = np.zeros(THREADS * size)
        for row in rows(v[start : start + CHUNK], THREADS * size):
            sums += row * row
        partial.append(tree(tree(sums.reshape(THREADS, size).T)))
    sums = np.zeros(THREADS)
    for row in rows(np.array(partial), THREADS):
        sums += row
    return float(tree(sums))


def agrees(room, leaves, bound, *, exact=True, loss_scale=None, **options):
    """Clip into new memory and in place; compare with the definition on NumPy."""
    wanted, norm = agclip.clip_by_global_norm(
        [x.copy() for x in leaves], float(bound), loss_scale=loss_scale, **options
    )
    kinds = [kind_named(x.dtype.name) for x in leaves]
    shrink = (strict_shrink(kinds, "float64"),) * 4 if options.get("strict") else None
    terms = Terms(policy=options.get("nonfinite", "propagate"), shrink=shrink)
    targets = [np.full_like(x, 7) for x in leaves]
    before = [x.copy() for x in leaves]
    new = room.clip(leaves, targets, terms, bound, loss_scale)
    assert [differing(x, y) for x, y in zip(leaves, before, strict=True)] == [0] * len(leaves)
    done = room.clip(leaves, None, terms, bound, loss_scale)
    for found in (leaves, targets):
        for x, y in zip(found, wanted, strict=True):
            if exact:
                assert differing(x, y) == 0
            else:
                np.testing.assert_allclose(x.astype(float), y.astype(float), rtol=2.0**-22, atol=0)
    for clipped in (new, done):
        assert clipped.norm.dtype == norm.dtype
        if exact:
            np.testing.assert_array_equal(clipped.norm, norm)
        else:
            np.testing.assert_allclose(clipped.norm, norm, rtol=2.0**-48)
    return done


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


@pytest.mark.parametrize("bound", [1.5, 1e4, 1e9, 0.0, math.inf])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_a_joint_clip_has_the_bits_of_numpys(room, narrow, bound, offset):
    leaves = [moved(entries(narrow, n, n), offset) for n in SIZES]
    agrees(room, leaves, bound)


@pytest.mark.parametrize("bound", [1.5, 1e9])
def test_leaves_of_all_dtypes_go_together(room, host, bound):
    names = [*NARROW, "float64"]
    leaves = [
        moved(entries(dtype_named(name), n, n), i % 5)
        for i, (n, name) in enumerate(itertools.product(SIZES, names))
    ]
    agrees(room, leaves, bound, exact=False)
    assert host.launches == ["agclip_norm_2", "agclip_norm_2_again", "agclip_product"] * 2


def test_complex_leaves_are_twice_as_many_numbers(room):
    x = (entries("float32", 300) + 1j * entries("float32", 300, 1)).astype(np.complex64)
    wanted, norm = agclip.clip_by_global_norm([x.copy()], 1.0)
    done = room.clip([x], None, Terms(), 1.0)
    assert done.norm == norm
    assert x.tobytes() == wanted[0].tobytes()


def test_two_launches_are_enough(room, host, narrow):
    room.clip([entries(narrow, 100) for _ in range(200)], None, Terms(), 1.0)
    assert host.launches == ["agclip_norm_2", "agclip_product"]


def test_nothing_beyond_a_leaf_is_written(room, dtype):
    memory = entries(dtype, 3 * CHUNK)
    before = memory.copy()
    leaves = [memory[3 : CHUNK + 14], memory[CHUNK + 14 : CHUNK + 15], memory[CHUNK + 16 : -5]]
    room.clip(leaves, None, Terms(), 1e-3)
    rest = np.r_[0:3, CHUNK + 15 : CHUNK + 16, len(memory) - 5 : len(memory)]
    assert memory[rest].tobytes() == before[rest].tobytes()
    assert np.delete(memory, rest).tobytes() != np.delete(before, rest).tobytes()


@pytest.mark.parametrize("policy", ["propagate", "zero", "skip"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("loss_scale", [None, 8.0])
def test_what_becomes_of_numbers_that_are_not_finite(room, narrow, policy, value, loss_scale):
    leaves = [entries(narrow, n, n) for n in (100, CHUNK + 5, 0)]
    leaves[1][CHUNK + 1] = value
    done = agrees(room, leaves, 1.0, nonfinite=policy, loss_scale=loss_scale)
    assert not state(done) & FINITE
    assert bool(state(done) & ERASED) == (policy == "zero")
    assert bool(state(done) & LIMITED) == (policy != "skip")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("loss_scale", [None, 1024.0, 0.37, 1e30, 1e-30])
@pytest.mark.parametrize("share", [1e-3, 0.9, 2.0, 0.0])
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


def test_each_leaf_has_its_own_norm(room, host, narrow):
    leaves = [entries(narrow, n, n) for n in SIZES] * 20
    leaves = [x.copy() for x in leaves]
    weights = tuple(0.5 + i % 7 for i in range(len(leaves)))
    wanted = [agclip.clip_by_norm(x.copy(), 0.25 * w) for x, w in zip(leaves, weights, strict=True)]
    done = room.clip(leaves, None, EACH._replace(weights=weights), 0.25)
    assert sum(differing(x, y) for x, y in zip(leaves, wanted, strict=True)) == 0
    assert done.norm is None
    assert host.launches == ["agclip_norm_2", "agclip_product"]
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
def test_orders_that_are_not_covered_are_left_alone(room, host, order):
    x = np.ones(3)
    assert room.clip([x], None, Terms(order=order), 0.5) is None
    assert host.launches == []


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_entries_are_bounded_in_one_launch(room, host, dtype, offset):
    low, high = (float(np.asarray(x).astype(dtype)) for x in (-0.3, 0.7))
    leaves = [moved(entries(dtype, n, n), offset) for n in SIZES]
    leaves[3][:4] = np.nan, np.inf, -np.inf, -0.0
    wanted = agclip.clip_by_value([x.copy() for x in leaves], low, high)
    targets = [np.full_like(x, 7) for x in leaves]
    assert room.within(leaves, targets, (low,) * 4, (high,) * 4)
    assert room.within(leaves, None, (low,) * 4, (high,) * 4)
    for found in (leaves, targets):
        assert sum(differing(x, y) for x, y in zip(found, wanted, strict=True)) == 0
    assert host.launches == ["agclip_within"] * 2


def test_what_the_kernels_cannot_have_is_left_alone(room, host):
    x = np.ones((6, 8), np.float32)
    whole = np.ones(10, np.float32)
    for leaves in (
        [],
        [x[:, ::2]],
        [x.astype(np.int32)],
        [whole[:6], whole[5:]],
    ):
        assert room.clip(leaves, None, Terms(), 1.0) is None
        assert not room.within(leaves, None, (0.0,) * 4, (0.0,) * 4)
    assert room.clip([x], [np.ones(47, np.float32)], Terms(), 1.0) is None
    assert room.clip([x], None, Terms(), np.ones(3)) is None
    assert host.launches == []


def test_leaves_without_entries_have_a_norm_of_zero(room, host):
    done = room.clip([np.ones(0, np.float32)] * 2, None, Terms(), 1.0)
    assert done.norm == 0
    assert host.launches == ["agclip_norm_2"]


def test_a_short_table_is_never_uploaded_and_a_long_one_once(room, host):
    leaves = [entries("float32", 9, i) for i in range(INLINE + 1)]
    room.clip(leaves[:-1], None, Terms(), 1.0)
    assert host.uploads == 0
    for _ in range(3):
        room.clip(leaves, None, Terms(), 1.0)
    assert host.uploads == 1
    room.clip([x.copy() for x in leaves], None, Terms(), 1.0)
    assert host.uploads == 2
    host.stream += 16
    room.clip(leaves, None, Terms(), 1.0)
    assert host.uploads == 3


def test_tables_are_not_kept_for_ever(room):
    for _ in range(_fused.MOST_TABLES + 9):
        room.clip([np.ones(3, np.float32)], None, Terms(), 1.0)
    kept = [np.ones(3, np.float32) for _ in range(_fused.MOST_TABLES + 9)]
    for x in kept:
        room.clip([x], None, Terms(), 1.0)
    assert len(room._tables) == _fused.MOST_TABLES


def test_streams_have_workspaces_of_their_own_whose_counters_end_at_zero(room, host):
    small = [entries("float32", 10)]
    large = [entries("float32", CHUNK * 3 + i, i) for i in range(3000)][:1500]
    for stream in (7, 23):
        host.stream = stream
        for leaves in (small, large, small):
            room.clip(leaves, None, Terms(), 1.0)
    spaces = list(room._workspaces.values())
    assert len({w.address for w in spaces}) == 2
    for w in spaces:
        assert not w.memory.view(np.uint32)[: w.leaves + 1].any()


@pytest.mark.parametrize(("count", "terms"), [(3, Terms()), (300, Terms()), (120, EACH)])
def test_what_is_captured_can_be_replayed(library, count, terms):
    host = fused_host.HostLibrary(library)
    room = Room(host)
    sizes = [1 + 37 * i % 300 for i in range(count)]
    sizes[1] = 5 * CHUNK + 3
    static = [entries("float32", n) for n in sizes]
    room.clip(static, None, terms, 1e9)
    host.capturing = True
    host.recorded.clear()
    done = room.clip(static, None, terms, 1.0)
    host.capturing = False
    replayed = list(host.recorded)
    for turn in range(3):
        new = [entries("float32", n, turn + 1) for n in sizes]
        for x, y in zip(static, new, strict=True):
            x[...] = y
        eager = room.clip(new, None, terms, 1.0)
        host.recorded = replayed
        host.replay()
        host.recorded = []
        assert [x.tobytes() for x in static] == [x.tobytes() for x in new]
        assert done.record[:7].tobytes() == eager.record[:7].tobytes()


def test_sizes_beyond_32_bits_are_passed_on_whole(room):
    far = _fused_table.Described((1 << 48, 1 << 50), (1 << 41, 5), (2, 2))
    table = room._new_table(_fused_table.Place(0, 7, False), _fused_table.packed(far, far, None))
    assert table.chunks == (1 << 27) + 1
    first = _fused_table.LEAF.unpack_from(table.template, 200)
    second = _fused_table.LEAF.unpack_from(table.template, 200 + _fused_table.LEAF.size)
    assert first == (1 << 48, 1 << 48, 1 << 41, 0, 2, 1.0)
    assert second == (1 << 50, 1 << 50, 5, 1 << 27, 2, 1.0)
