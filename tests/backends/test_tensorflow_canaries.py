"""What TensorFlow does that the adapter works around: where one fails, a way round it may go.

Each says beside it that agclip's own function is not affected. Found with TensorFlow 2.21.
"""

import math
import subprocess
import sys

import numpy as np
import pytest

import agclip


@pytest.fixture(scope="module")
def tf(need_backend):
    need_backend("tensorflow")
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def xp(tf):
    return agclip.get_backend("tensorflow").xp


@pytest.fixture
def traced(tf):
    """A function that compiles another one."""
    return lambda function, **options: tf.function(function, autograph=False, **options)


def test_grappler_turns_a_comparison_round_that_nan_does_not_allow(tf, xp, traced):
    one, nan = tf.constant(1.0), tf.constant(math.nan)
    assert not traced(lambda a, b: tf.logical_not(a <= b))(one, nan)
    assert traced(lambda a, b: xp.logical_not(a <= b))(one, nan)


def test_a_bound_of_nan_gives_nan_in_a_graph(tf, traced):
    clipped = traced(agclip.clip_by_norm)(tf.constant([3.0, 4.0]), tf.constant(math.nan))
    assert np.isnan(clipped).all()


SMALL, LARGE = 2.0**-64, 2.5e38


def test_grappler_makes_one_product_of_two(tf, traced):
    def twice(x, far):
        return (x * tf.where(far, SMALL, 1.0)) * tf.where(far, 2.0**-90, 1.0)

    x = tf.constant([LARGE])
    assert traced(twice)(x, tf.constant(True)).numpy() == 0
    assert twice(x, tf.constant(True)).numpy() > 0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_grappler_and_xla_make_one_factor_of_a_constant_quotient_too(tf, traced, jit_compile):
    def twice(x):
        return (x / tf.constant(2.0**100)) * tf.constant(2.0**-60)

    assert traced(twice, jit_compile=jit_compile)(tf.constant([LARGE])).numpy() == 0


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_a_coefficient_below_the_range_keeps_what_is_in_it(tf, traced, constant, jit_compile):
    x, norm = tf.constant([LARGE]), 1.5 * 2.0**100

    def clip(x, norm):
        return agclip.clip_by_global_norm([x], 2.0**-60, use_norm=norm)[0][0]

    if constant:
        got = traced(lambda x: clip(x, norm), jit_compile=jit_compile)(x)
    else:
        got = traced(clip, jit_compile=jit_compile)(x, tf.constant(norm))
    assert got.numpy()[0] == pytest.approx(LARGE * 2.0**-60 / norm, rel=3e-7)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_so_does_a_loss_scale_that_is_a_constant(tf, traced, dtype, jit_compile):
    scale = 1.5 * 2.0**126

    def clip(x):
        return agclip.clip_by_value(x, -1e38, 1e38, loss_scale=scale)

    got = traced(clip, jit_compile=jit_compile)(tf.constant([LARGE], dtype))
    assert got.numpy()[0] == pytest.approx(LARGE / scale, rel=3e-7)


def test_xla_loses_a_nan_in_a_maximum(tf, xp, traced):
    x = tf.constant([1.0, math.nan, 2.0])
    assert traced(tf.reduce_max, jit_compile=True)(x) == 2
    assert math.isnan(traced(xp.max, jit_compile=True)(x))
    assert math.isnan(traced(xp.min, jit_compile=True)(x))


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_xla_prefers_a_number_to_nan(tf, xp, traced, name):
    one, nan = tf.constant(1.0), tf.constant(math.nan)
    assert traced(getattr(tf, name), jit_compile=True)(one, nan) == 1
    for a, b in ((one, nan), (nan, one)):
        assert math.isnan(traced(getattr(xp, name), jit_compile=True)(a, b))


def test_compilers_make_a_product_of_a_division_by_a_constant(tf, traced):
    x = np.random.default_rng(0).random(1000, np.float32)
    for jit_compile in (False, True):
        got = traced(lambda x: x / 3.0, jit_compile=jit_compile)(tf.constant(x)).numpy()
        assert (got != x / np.float32(3)).any()


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_operations_take_subnormal_numbers_for_zero(tf, traced, jit_compile):
    def half(x):
        return x * 0.5

    call = half if jit_compile is None else traced(half, jit_compile=jit_compile)
    assert call(tf.constant([1e-40, 1.0])).numpy()[0] == 0


def test_host_memory_is_worked_on_without_them(tf):
    x = tf.constant([1e-40, 1.0])
    kept = agclip.clip_by_norm(x, 0.5).numpy()[0]  # in host memory, by NumPy
    assert kept == np.float32(np.float32(1e-40) * np.float32(0.5)) > 0


def test_a_number_is_cast_by_way_of_float32(tf, xp):
    assert tf.cast(0.1, tf.float64).numpy() != 0.1
    for made in (xp.asarray(0.1, dtype=tf.float64), xp.full((), 0.1, dtype=tf.float64)):
        assert made.numpy() == 0.1
    x = tf.zeros([2], tf.float64)
    assert xp.full_like(x, 0.1).numpy().tolist() == [0.1, 0.1]
    assert xp.where(x == 0, 0.1, x).numpy().tolist() == [0.1, 0.1]


@pytest.mark.parametrize("device", [None, "CPU:0"])
def test_zeros_of_both_signs_are_one_constant(tf, xp, device):
    def is_negative(make):
        with tf.device("CPU:0"):  # each device keeps its constants, by a key that 0.0 == -0.0 share
            return [bool(np.signbit(make(value).numpy())) for value in (0.0, -0.0)]

    first, second = is_negative(tf.constant)
    assert first == second
    for make in (
        lambda value: xp.asarray(value, dtype=tf.float32, device=device),
        lambda value: xp.full((), value, dtype=tf.float32, device=device),
        lambda value: xp.full_like(tf.ones([]), value),
        lambda value: xp.where(tf.constant(True), value, tf.ones([])),
        lambda value: agclip.clip_by_norm(tf.constant([value, 1.0]), 0.5)[0],
    ):
        assert is_negative(make) == [False, True]


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_float64_is_added_up_nearly_in_a_row(tf, xp, traced, jit_compile):
    y = np.full(1_000_000, 0.1)
    exact = math.fsum(y)

    def error(total):
        call = total if jit_compile is None else traced(total, jit_compile=jit_compile)
        return abs(call(tf.constant(y)).numpy() - exact) / np.spacing(exact)

    assert error(tf.reduce_sum) > 3
    # XLA takes the rows apart again; the root of a sum is off by half of that.
    assert error(xp.sum) <= (6 if jit_compile else 3)


def test_a_sum_of_unknown_length_is_as_good(tf, xp):
    y = np.full(1_000_003, 0.1)
    total = tf.function(
        xp.sum, input_signature=[tf.TensorSpec([None], tf.float64)], autograph=False
    )
    assert abs(total(tf.constant(y)).numpy() - math.fsum(y)) <= 3 * np.spacing(math.fsum(y))


def unaligned():
    """NumPy's memory, four bytes beside where TensorFlow wants it."""
    raw = np.zeros(256, np.uint8)
    start = -raw.ctypes.data % 64 + 4
    return raw[start : start + 64].view(np.float32)


CODE = """
import numpy as np, tensorflow as tf
raw = np.zeros(256, np.uint8)
start = -raw.ctypes.data % 64 + 4
x = raw[start : start + 64].view(np.float32)
print(tf.experimental.dlpack.from_dlpack(x.__dlpack__()) + 1)
"""


@pytest.mark.whole  # a process that imports TensorFlow takes seconds
def test_memory_that_is_not_aligned_ends_the_process(tf):
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, check=False, timeout=300
    )
    assert done.returncode < 0, done.stderr[-500:]


@pytest.mark.parametrize("name", ["from_dlpack", "asarray"])
def test_so_it_is_copied_to_where_it_is(tf, xp, name):
    taken = getattr(xp, name)(unaligned())
    # Asked first: the sum would end this process.
    assert np.asarray(taken).__array_interface__["data"][0] % 64 == 0
    assert (taken + 1).numpy().tolist() == [1.0] * 16


def test_bfloat16_has_no_buffer(tf):
    with pytest.raises(ValueError, match="buffer"):
        memoryview(tf.constant([1.0], tf.bfloat16))


def test_a_traced_tensor_of_unknown_rank_has_minus_one_axes(tf):
    found = []
    spec = tf.TensorSpec(None)
    tf.function(lambda x: found.append(x.ndim), input_signature=[spec], autograph=False)(
        tf.constant([1.0])
    )
    assert found == [-1]
