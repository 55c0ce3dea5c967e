"""The CUDA kernels, compiled for the host and run on NumPy's memory: their arithmetic, for real."""

import math

import numpy as np
import pytest

import cuda_host
from agclip._backends.contract import Factor
from agclip_backends._cuda import calls
from agclip_backends._cuda.source import CHUNK, THREADS

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")

DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
SIZES = [0, 1, 7, 9, 8 * THREADS, CHUNK - 1, CHUNK, 2 * CHUNK + 5]


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    if cuda_host.COMPILER is None:
        pytest.skip("there is no C++ compiler here")
    return cuda_host.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(params=["ascending", "descending"])
def driver(request, library):
    return cuda_host.HostDriver(library, backward=request.param == "descending")


@pytest.fixture(params=DTYPES)
def dtype(request):
    return np.dtype(ml_dtypes.bfloat16 if request.param == "bfloat16" else request.param)


def entries(dtype, size, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(size) * 10.0 ** rng.integers(-3, 3, size)
    if dtype.kind == "c":
        x = x + 1j * rng.standard_normal(size)
    return x.astype(dtype)


def parts(x):
    """The real numbers of an array, as float64."""
    return (x.view(x.real.dtype) if x.dtype.kind == "c" else x).astype(np.float64)


def exact(x, scale=1.0):
    return math.fsum((parts(x).ravel(order="K") * scale) ** 2)


def factor(narrow, wide=None):
    wide = narrow if wide is None else wide
    return Factor(
        narrow=tuple(x if x is None else np.array(float(x)) for x in narrow),
        wide=tuple(x if x is None else np.array(float(x)) for x in wide),
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_sum_of_squares_is_right_to_a_few_units(driver, dtype, size):
    x = entries(dtype, size)
    found = calls.sum_squares(driver, np, [x], 1.0)
    assert found.tolist() == [pytest.approx(exact(x), rel=2.0**-48, abs=0)]


@pytest.mark.parametrize("offset", [1, 2, 3, 5])
def test_a_sum_does_not_depend_on_the_address(driver, dtype, offset):
    x = entries(dtype, CHUNK + 77)
    moved = np.empty(x.size + offset, dtype)[offset:]
    moved[...] = x
    sums = calls.sum_squares(driver, np, [x, moved], 1.0)
    assert sums[0] == sums[1]


def test_the_order_of_threads_and_blocks_changes_no_bit(library, dtype):
    x = entries(dtype, 2 * CHUNK + 3)
    ways = [cuda_host.HostDriver(library, backward=backward) for backward in (False, True)]
    first, second = (calls.sum_squares(way, np, [x], 1.0)[0] for way in ways)
    assert first == second


def test_leaves_of_all_dtypes_go_in_one_launch_each_with_its_own_sum(driver):
    leaves = [
        entries(np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name), size, seed=size)
        for name in DTYPES
        for size in (0, 5, CHUNK, 0, CHUNK + 1, 0)
    ]
    alone = [calls.sum_squares(driver, np, [leaf], 1.0)[0] for leaf in leaves]
    driver.launches.clear()
    assert calls.sum_squares(driver, np, leaves, 1.0).tolist() == alone
    assert driver.launches == ["agclip_sum_chunks", "agclip_sum_leaves"]


def test_no_leaves_need_no_launch(driver):
    assert calls.sum_squares(driver, np, [], 1.0).tolist() == []
    calls.scale(driver, np, [], [], factor((None, 2.0)))
    assert driver.launches == []


@pytest.mark.parametrize("scale", [2.0**-600, 0.5, np.asarray(2.0**-600), np.asarray(1.0)])
def test_entries_are_multiplied_by_the_scale(driver, scale):
    x = entries(np.dtype("float64"), CHUNK + 9) * 2.0**600
    found = calls.sum_squares(driver, np, [x], scale)[0]
    if float(scale) in (1.0, 0.5):
        assert found == math.inf
    else:
        assert found == pytest.approx(exact(x, float(scale)), rel=2.0**-48)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK, CHUNK + 41])
def test_a_sum_tells_of_every_entry_that_is_not_finite(driver, dtype, value, place):
    x = entries(dtype, CHUNK + 42)
    x[place] = value
    (found,) = calls.sum_squares(driver, np, [x], 1.0)
    assert not np.isfinite(found)
    assert np.isnan(found) == np.isnan(value)


def test_the_extremes_of_the_dtypes_are_squared_exactly(driver):
    halves = np.array([65504, 2.0**-24, 2.0**-14], np.float16)
    brains = np.array([3.3895e38, 9.2e-41], ml_dtypes.bfloat16)
    floats = np.array([3.4028235e38, 1e-45, 1e-40], np.float32)
    leaves = [x[i : i + 1] for x in (halves, brains, floats) for i in range(x.size)]
    found = calls.sum_squares(driver, np, leaves, 1.0)
    assert found.tolist() == [float(x[0]) ** 2 for x in leaves]


def product(x, pre, rest):
    """The same product by NumPy: in float32 for half types, rounded once."""
    real = np.float64 if x.real.dtype == np.float64 else np.float32
    y = x.view(x.real.dtype) if x.dtype.kind == "c" else x
    y = y.astype(real)
    for part in (pre, rest):
        if part is not None:
            y = y * real(part)
    return y.astype(x.real.dtype).view(x.dtype)


@pytest.mark.parametrize("pair", [(None, 0.3), (1.0, 0.3), (2.0**-64, 0.7), (1.0, np.nan)])
@pytest.mark.parametrize("size", SIZES)
def test_a_product_has_the_bits_of_numpys(driver, dtype, size, pair):
    x = entries(dtype, size)
    expected, target = product(x, *pair), np.empty_like(x)
    before = x.tobytes()
    calls.scale(driver, np, [x], [target], factor(pair))
    assert x.tobytes() == before
    np.testing.assert_array_equal(parts(target), parts(expected))
    calls.scale(driver, np, [x], [x], factor(pair))
    assert x.tobytes() == target.tobytes()


@pytest.mark.parametrize("offset", [1, 3])
def test_nothing_beyond_a_leaf_is_written(driver, dtype, offset):
    memory = entries(dtype, 2 * CHUNK)
    before = memory.copy()
    x = memory[offset : offset + CHUNK + 11]
    calls.scale(driver, np, [x], [x], factor((None, 0.5)))
    assert memory[:offset].tobytes() == before[:offset].tobytes()
    assert memory[offset + x.size :].tobytes() == before[offset + x.size :].tobytes()
    assert x.tobytes() == product(before[offset : offset + x.size], None, 0.5).tobytes()


def test_narrow_leaves_take_the_narrow_factor_and_wide_ones_the_wide(driver):
    leaves = [np.ones(3, np.float16), np.ones(3, np.float32), np.ones(3), np.ones(3, np.complex128)]
    pair = factor((0.5, 0.25), (None, 0.125 + 2.0**-40))
    calls.scale(driver, np, leaves, leaves, pair)
    assert [complex(x[1]) for x in leaves] == [0.125, 0.125, 0.125 + 2.0**-40, 0.125 + 2.0**-40]


def test_floats_and_arrays_make_the_same_factor(driver):
    x, y = entries(np.dtype("float32"), 100), entries(np.dtype("float32"), 100)
    calls.scale(driver, np, [x], [x], Factor((0.5, 0.3), (None, 0.3)))
    calls.scale(driver, np, [y], [y], factor((0.5, 0.3)))
    assert x.tobytes() == y.tobytes()


def test_a_float32_scalar_is_widened(driver):
    x = np.ones(2, np.float32)
    calls.scale(driver, np, [x], [x], Factor((None, np.array(0.1, np.float32)), (None, 0.0)))
    assert x.tolist() == [np.float32(0.1)] * 2


def test_nothing_is_written_in_place_where_the_factor_is_one(driver, dtype):
    x = entries(dtype, CHUNK + 3)
    x.flags.writeable = False
    calls.scale(driver, np, [x], [x], factor((1.0, 1.0)))
    assert x.tobytes() == entries(dtype, CHUNK + 3).tobytes()


def test_a_factor_of_one_copies_the_bits_to_new_memory(driver, dtype):
    x = entries(dtype, CHUNK + 3)
    x[:3] = np.inf, -np.inf, -0.0
    target = np.zeros_like(x)
    calls.scale(driver, np, [x], [target], factor((1.0, 1.0)))
    assert target.tobytes() == x.tobytes()


def test_infinite_parts_of_complex_entries_stay_infinite(driver):
    x = np.array([complex(np.inf, 1.0), complex(2.0, -np.inf)], np.complex64)
    calls.scale(driver, np, [x], [x], factor((None, 0.5)))
    assert x.tolist() == [complex(np.inf, 0.5), complex(1.0, -np.inf)]


def test_every_half_precision_number_is_rounded_as_numpy_rounds_it(driver):
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = x[~np.isnan(x)]
    expected = (x.astype(np.float32) * np.float32(0.7)).astype(np.float16)
    calls.scale(driver, np, [x], [x], factor((None, 0.7)))
    assert x.tobytes() == expected.tobytes()


def test_every_bfloat16_number_is_rounded_as_ml_dtypes_rounds_it(driver):
    bits = np.arange(1 << 16, dtype=np.uint16)
    x = bits[(bits & 0x7FFF) <= 0x7F80].view(ml_dtypes.bfloat16)
    expected = (x.astype(np.float32) * np.float32(0.7)).astype(ml_dtypes.bfloat16)
    calls.scale(driver, np, [x], [x], factor((None, 0.7)))
    assert x.tobytes() == expected.tobytes()


@pytest.mark.parametrize("bits", [0x7F81, 0x7FFF, 0xFF81, 0xFFFF])
def test_a_bfloat16_nan_stays_one(driver, bits):
    x = np.full(9, bits, np.uint16).view(ml_dtypes.bfloat16)
    calls.scale(driver, np, [x], [x], factor((None, 0.7)))
    assert ((x.view(np.uint16) & 0x7FFF) > 0x7F80).all()


def test_leaves_that_share_memory_are_multiplied_one_after_the_other(driver):
    x = np.ones(CHUNK + 5, np.float32)
    calls.scale(driver, np, [x, x[2:4]], [x, x[2:4]], factor((None, 0.5)))
    assert x[:5].tolist() == [0.5, 0.5, 0.25, 0.25, 0.5]
    assert driver.launches == ["agclip_scale"] * 2


def test_neighbours_in_one_buffer_go_in_one_launch(driver):
    memory = np.ones(100, np.float32)
    leaves = [memory[:30], memory[30:31], memory[31:]]
    calls.scale(driver, np, leaves, leaves, factor((None, 0.5)))
    assert set(memory.tolist()) == {0.5}
    assert driver.launches == ["agclip_scale"]


def test_leaves_in_column_order_fit_and_those_with_gaps_do_not(driver):
    x = np.ones((6, 8), np.float32)
    fitting = [calls.fits(driver, leaf) for leaf in (x, x.T, x[2:4], x[:, ::2], x[:, 1:])]
    assert fitting == [True, True, True, False, False]
    assert not calls.fits(driver, x.astype(np.int32))


class FarAway:
    """The table of leaves too large to exist here."""

    shape = (1 << 20, 1 << 20)
    dtype = np.dtype("complex64")
    nbytes = 0


def test_sizes_beyond_32_bits_are_passed_on_whole(library):
    class Recorder(cuda_host.HostDriver):
        def address(self, x):
            return 1 << 48 if isinstance(x, FarAway) else super().address(x)

        def launch(self, name, blocks, *words):
            self.launches.append((name, blocks))
            self.table = np.ctypeslib.as_array(
                (cuda_host.ctypes.c_longlong * 10).from_address(words[0])
            ).tolist()

    recorder = Recorder(library)
    leaves = [FarAway(), FarAway()]
    calls.scale(recorder, np, leaves, leaves, factor((None, 0.5)))
    assert recorder.launches == [("agclip_scale", 1 << 28)]
    assert recorder.table == [
        *(1 << 48, 1 << 48, 1 << 41, 0, 2),
        *(1 << 48, 1 << 48, 1 << 41, 1 << 27, 2),
    ]
