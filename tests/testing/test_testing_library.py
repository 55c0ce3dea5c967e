"""The pieces of the conformance suite: expectations, checks, and the record of a library."""

import warnings

import numpy as np
import pytest

from agclip.testing import Library, check_backend
from agclip.testing.harness.check import (
    Check,
    ConformanceError,
    NotApplicableError,
    expect,
    expect_same,
)
from agclip.testing.harness.codec import compare


def test_an_expectation_that_holds_says_nothing():
    assert expect(1, "nothing") is None


def test_an_expectation_that_fails_says_what():
    with pytest.raises(ConformanceError, match=r"^one must be 1; got 2$"):
        expect([], "one must be 1; got 2")


@pytest.mark.parametrize(
    ("got", "wanted", "message"),
    [
        ([1.0, 0.0], [1.0, -0.0], r"^it, entry 1, must be -0\.0; got 0\.0$"),
        ([complex(0.0, 1.0)], [complex(-0.0, 1.0)], r"^it, entry 0, must be \(-0\+1j\); got 1j$"),
        ([1.0], [1.0, 2.0], r"^it must have 2 elements; got 1$"),
        ([float("nan")], [1.0], r"^it, entry 0, must be 1\.0; got nan$"),
    ],
)
def test_numbers_are_compared_bit_by_bit(got, wanted, message):
    with pytest.raises(ConformanceError, match=message):
        expect_same(got, wanted, "it")


def test_numbers_that_are_the_same_pass():
    nan = float("nan")
    assert expect_same([nan, -0.0, 1j], [nan, -0.0, 1j], "it") is None


def test_a_check_returns_what_was_warned_of_unless_the_library_is_known_for_it():
    overflow = Check("overflow", "", lambda _: np.float32(3e38) * np.float32(10))
    (warning,) = overflow.run(Library("numpy"))
    assert isinstance(warning, RuntimeWarning)
    assert str(warning).startswith("overflow encountered")
    assert overflow.run(Library("numpy", ignored_warnings=(RuntimeWarning,))) == []


def test_other_warnings_are_no_matter_of_a_check():
    deprecated = Check(
        "deprecated", "", lambda _: warnings.warn("old", FutureWarning, stacklevel=1)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert deprecated.run(Library("numpy")) == []


# Results against vectors.

HALF = {"dtype": "float32", "shape": [2], "values": ["0x1p-1", "-0x0p+0"], "ulps": 1.5}
TINY = {"dtype": "float32", "shape": [], "values": ["0x1p-140"], "ulps": 1.5}
COUNT = {"dtype": "int32", "shape": [], "values": [3], "ulps": 0}


def f32(values):
    return np.asarray(values, dtype=np.float32)


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (HALF, f32([0.5, -0.0])),
        (HALF, f32([0.5 + 2.0**-24, -0.0])),
        ({"tuple": [HALF, None]}, (f32([0.5, -0.0]), None)),
        ({"dict": [["b", COUNT], ["a", []]]}, {"b": np.int32(3), "a": []}),
        (TINY, f32(2.0**-140)),
    ],
)
def test_results_within_the_tolerance_pass(expected, got):
    assert compare(Library("numpy"), expected, got) is None


@pytest.mark.parametrize(
    ("expected", "got", "message"),
    [
        (HALF, f32([0.5 + 2.0**-22, 0.0]), "result, entry 0 must be 0.5 within .*, 4 ulp off"),
        (HALF, f32([0.5, 0.0]), "result, entry 1 must be -0.0 within 1.5 ulp of float32; got 0.0"),
        (HALF, f32([0.5, np.nan]), "result, entry 1 must be -0.0 .* got nan, inf ulp off"),
        (HALF, np.asarray([0.5, -0.0]), "result must have the dtype float32; got float64"),
        (HALF, f32([[0.5, -0.0]]), r"result must have the shape \(2,\); got \(1, 2\)"),
        (HALF, [0.5, -0.0], r"result must be an array; got \[0.5, -0.0\]"),
        ([HALF], (f32([0.5, -0.0]),), "result must be a list; got"),
        ([HALF, HALF], [f32([0.5, -0.0])], r"result must have the keys \[0, 1\]; got \[0\]"),
        (
            {"dict": [["b", None], ["a", None]]},
            {"a": None, "b": None},
            r"result must have the keys \['b', 'a'\]; got \['a', 'b'\]",
        ),
        ({"dict": [["a", [None]]]}, {"a": [0]}, r"result\['a'\]\[0\] must be None; got 0"),
        (COUNT, np.asarray(2, dtype=np.int32), "result must be 3; got 2"),
        (TINY, f32(0.0), "result must be 7.17.*e-43 within 1.5 ulp of float32; got 0.0"),
    ],
)
def test_results_beyond_the_tolerance_are_named(expected, got, message):
    with pytest.raises(ConformanceError, match=message):
        compare(Library("numpy"), expected, got)


def test_a_library_that_flushes_may_return_zero_for_what_is_subnormal():
    library = Library("numpy")
    library._flushing["float32"] = True
    assert compare(library, TINY, f32(0.0)) is None


# The library record.


def test_a_library_is_known_by_its_backend_or_by_a_name():
    assert str(Library("numpy")) == "numpy"
    assert str(Library("numpy", "numpy, as it comes")) == "numpy, as it comes"


def test_arrays_are_made_and_read_in_row_major_order():
    library = Library("numpy")
    made = library.array([1, 2, 3, 4, 5, 6], "int32", (3, 2))
    assert made.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert library.numbers(made) == [1, 2, 3, 4, 5, 6]
    assert library.array([7.5], "float32", ()).shape == ()
    assert library.array([], "float32", (0, 3)).shape == (0, 3)


def test_a_missing_dtype_is_no_failure():
    library = Library("numpy")
    assert not library.has("bfloat16")
    with pytest.raises(NotApplicableError, match="numpy has no bfloat16"):
        library.array([1.0], "bfloat16")


def test_a_dtype_may_be_given():
    extension = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    assert Library("numpy", dtypes={"bfloat16": extension.bfloat16}).has("bfloat16")


def test_a_dtype_that_comes_out_as_another_is_missing():
    narrow = Library("numpy", asarray=lambda x, _: np.asarray(x, dtype=np.float32))
    assert narrow.has("float32")
    assert not narrow.has("float64")


def test_a_library_without_float32_is_an_error_not_a_skip():
    library = Library("numpy", asarray=lambda x, _: np.asarray(x, dtype=np.float64))
    with pytest.raises(TypeError, match="`library` must make float32 arrays; got none from numpy"):
        check_backend(library)


def test_arrays_without_a_backend_are_an_error():
    class Strange:
        def __init__(self):
            self.dtype, self.shape = np.dtype(np.float32), (1,)

    library = Library("numpy", asarray=lambda *_: Strange(), tolist=lambda _: [1.0])
    with pytest.raises(TypeError, match=r"must belong to a backend; got none for .*Strange"):
        check_backend(library)


def test_numpy_is_what_it_is():
    library = Library("numpy")
    assert library.writable
    assert library.identity_is_object
    assert library.sums_in_float64
    assert not library.flushes_subnormals("float32")


def test_a_library_that_flushes_is_found_out():
    class Flushing(np.ndarray):
        def __add__(self, other):
            return np.zeros_like(self)

    def flushing(nested, dtype):
        return np.asarray(nested, dtype=dtype).view(Flushing)

    assert Library("numpy", asarray=flushing).flushes_subnormals("float32")


def test_a_wrapped_function_is_wrapped_once():
    seen = []

    def wrap(function):
        seen.append(function)
        return function

    library = Library("numpy", wrap=wrap)
    assert [library.call(abs, -1), library.call(abs, -2)] == [1, 2]
    assert seen == [abs]
    assert not library.identity_is_object
