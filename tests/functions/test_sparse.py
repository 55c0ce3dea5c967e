"""Sparse leaves: entries of one place count as their sum, stored values alone are multiplied."""

import math

import numpy as np
import pytest

import agclip
import arrays
import sparse_formats
from sparse_formats import Entries
from thinned import thinned

QUICK = ("torch-coo", "torch-csr", "tensorflow-slices", "sparse-coo")
"""The formats that `make test` runs; of JAX it runs `tests/backends/test_sparse_libraries.py`."""
REPEATS = [name for name in sparse_formats.FORMATS if not name.startswith("sparse-")]


@pytest.fixture(params=thinned(sparse_formats.FORMATS, QUICK, ids=str))
def sparse(request):
    return sparse_formats.get(request.param)


@pytest.fixture(params=thinned(REPEATS, QUICK, ids=str))
def repeating(request):
    """A format in which several entries may be of one place."""
    return sparse_formats.get(request.param)


@pytest.fixture(params=[name for name in REPEATS if name.startswith("torch")])
def writable(request):
    return sparse_formats.get(request.param)


@pytest.fixture
def rows():
    """The example of the documentation: rows 1, 1 and 0 with 3, 3 and 8."""
    return Entries((2, 2), [(1, 0), (1, 0), (0, 0)], [3.0, 3.0, 8.0])


def number(x):
    return float(np.asarray(x))


# --- norms -------------------------------------------------------------------------------------


def test_entries_of_one_place_count_as_their_sum(repeating, rows):
    x = repeating.make(rows)
    assert number(agclip.global_norm([x])) == 10.0
    clipped = agclip.clip_by_norm(x, 5.0)
    assert repeating.dense(clipped).tolist() == [[4.0, 0.0], [3.0, 0.0]]
    assert repeating.indices(clipped) == repeating.indices(x)


def test_entries_of_one_place_may_cancel(repeating):
    x = repeating.make(Entries((2, 2), [(1, 1), (1, 1), (0, 0)], [3.0, -3.0, 4.0]))
    assert number(agclip.global_norm([x])) == 4.0
    assert np.array_equal(
        repeating.values(agclip.clip_by_norm(x, 4.0)), repeating.values(x)
    )  # 9.43 if they were counted one by one


@pytest.mark.parametrize("order", [1, 2, 3, 0.5, math.inf])
def test_a_norm_of_any_order_is_of_the_sums(repeating, rows, order):
    x = repeating.make(rows)
    wanted = sparse_formats.norm(rows.dense(), order)
    assert number(agclip.global_norm([x], order)) == pytest.approx(wanted, rel=3e-7)


def test_a_sum_beyond_the_range_of_its_dtype_counts_whole(repeating):
    x = repeating.make(Entries((2, 2), [(1, 0), (1, 0)], [60000.0, 60000.0], "float16"))
    assert number(agclip.global_norm([x])) == 120000.0
    clipped = agclip.clip_by_norm(x, 6.0)
    assert repeating.dense(clipped).tolist() == [[0.0, 0.0], [6.0, 0.0]]


def test_a_sum_beyond_the_range_of_float32_counts_whole(repeating):
    x = repeating.make(Entries((2, 2), [(1, 0), (1, 0)], [3e38, 3e38]))
    assert repeating.dense(agclip.clip_by_norm(x, 6.0))[1, 0] == pytest.approx(6.0, rel=3e-7)


def test_float64_sums_are_measured_at_any_size(repeating):
    x = repeating.make(Entries((2, 2), [(1, 0), (1, 0), (0, 1)], [1e200, 2e200, 4e200], "float64"))
    assert number(agclip.global_norm([x])) == pytest.approx(5e200, rel=1e-15)
    clipped = repeating.dense(agclip.clip_by_norm(x, 5.0))
    assert clipped.ravel().tolist() == pytest.approx([0.0, 4.0, 3.0, 0.0], rel=1e-15)


def test_within_the_bound_the_very_object_comes_back(sparse, rows):
    x = sparse.make(rows)
    clipped = agclip.clip_by_norm([x], 100.0)[0]
    assert np.array_equal(sparse.values(clipped), sparse.values(x))
    assert clipped is x or sparse.library.name in ("jax", "tensorflow")


def test_the_reported_norm_has_the_dtype_of_the_leaves(sparse, rows):
    norm = agclip.global_norm([sparse.make(rows)])
    assert str(norm.dtype).rpartition(".")[2].strip("<>' ").endswith("float32")


def test_sparse_and_dense_leaves_have_one_norm(sparse, rows):
    tree = {"w": sparse.make(rows), "none": None, "rest": [sparse.library.array([0.0, 24.0])]}
    clipped, norm = agclip.clip_by_global_norm(tree, 13.0)
    assert number(norm) == 26.0
    assert sparse.dense(clipped["w"]).tolist() == [[4.0, 0.0], [3.0, 0.0]]
    assert sparse.library.entries(clipped["rest"][0]).tolist() == [0.0, 12.0]
    assert clipped["none"] is None


def test_an_average_is_over_all_elements(sparse, rows):
    x = sparse.make(rows)
    average = sparse.dense(agclip.clip_by_average_norm(x, 1.25))
    assert average.tolist() == [[4.0, 0.0], [3.0, 0.0]]  # 10 / 4 is twice the bound
    rms = sparse.dense(agclip.clip_by_rms(x, 2.5))
    assert rms.tolist() == [[4.0, 0.0], [3.0, 0.0]]


def test_a_given_norm_is_taken(sparse, rows):
    clipped, norm = agclip.clip_by_global_norm([sparse.make(rows)], 1.0, 2.0)
    assert number(norm) == 2.0
    assert sparse.dense(clipped[0]).tolist() == [[4.0, 0.0], [3.0, 0.0]]


def test_an_infinite_given_norm_is_measured_anew(sparse, rows):
    clipped, _ = agclip.clip_by_global_norm([sparse.make(rows)], 5.0, math.inf)
    assert sparse.dense(clipped[0]).tolist() == [[4.0, 0.0], [3.0, 0.0]]


def test_a_loss_scale_divides_what_is_stored(sparse, rows):
    clipped, norm = agclip.clip_by_global_norm([sparse.make(rows)], 100.0, loss_scale=2.0)
    assert number(norm) == 5.0
    assert sparse.dense(clipped[0]).tolist() == [[4.0, 0.0], [3.0, 0.0]]


def test_a_strict_bound_holds(repeating):
    random = np.random.default_rng(7)
    entries = sparse_formats.split(random.standard_normal((4, 4)).astype(np.float32))
    once = agclip.clip_by_norm(repeating.make(entries), 1.0, strict=True)
    assert sparse_formats.norm(repeating.dense(once)) <= 1.0
    twice = agclip.clip_by_norm(once, 1.0, strict=True)
    assert np.array_equal(repeating.values(twice), repeating.values(once))


def test_a_reproducible_norm_is_that_of_the_dense_array(sparse):
    random = np.random.default_rng(11)
    values = random.standard_normal((6, 4)).astype(np.float32)
    entries = (sparse_formats.split if sparse.repeats else sparse_formats.joined)(values)
    got = agclip.global_norm([sparse.make(entries)], reproducible=True)
    assert number(got) == number(agclip.global_norm([values], reproducible=True))


def test_complex_entries_are_added_up(repeating):
    if repeating.name == "tensorflow-slices":
        entries = Entries((2, 2), [(1, 0), (1, 0)], [1.5 + 2j, 1.5 + 2j], "complex64")
    else:
        entries = Entries((2, 2), [(1, 0), (1, 0)], [1.5 + 2j, 1.5 + 2j], "complex128")
    x = repeating.make(entries)
    assert number(agclip.global_norm([x])) == 5.0
    assert repeating.dense(agclip.clip_by_norm(x, 2.5))[1, 0] == 1.5 + 2j


# --- what is not finite ------------------------------------------------------------------------


@pytest.fixture(params=[math.nan, math.inf])
def bad(request, rows):
    return rows._replace(values=[request.param, 3.0, 8.0])


def test_what_is_not_finite_is_stored_everywhere(sparse, bad):
    clipped = agclip.clip_by_norm(sparse.make(bad), 5.0)
    dense = sparse.dense(clipped)
    assert np.isnan(dense[0, 0])
    assert np.isnan(dense[1, 0])
    assert sparse.indices(clipped) == sparse.indices(sparse.make(bad))


def test_zero_and_skip(sparse, bad):
    x = sparse.make(bad)
    zeroed = sparse.values(agclip.clip_by_norm(x, 5.0, nonfinite="zero"))
    assert not zeroed.any()
    skipped = agclip.clip_by_norm(x, 5.0, nonfinite="skip")
    assert np.array_equal(sparse.values(skipped), sparse.values(x), equal_nan=True)


def test_an_error_names_the_sparse_leaf(sparse, bad):
    tree = {"b": sparse.library.array([1.0]), "w": sparse.make(bad)}
    with pytest.raises(FloatingPointError, match=r"at t\['w'\]"):
        agclip.clip_by_norm(tree, 5.0, nonfinite="error")


def test_infinities_that_meet_are_an_error(repeating):
    x = repeating.make(Entries((2, 2), [(1, 0), (1, 0)], [math.inf, -math.inf]))
    with pytest.raises(FloatingPointError, match=r"got NaN at t\."):
        agclip.clip_by_norm(x, 5.0, nonfinite="error")


# --- elements ----------------------------------------------------------------------------------


def test_elements_are_clipped_as_the_dense_array_has_them(repeating):
    entries = Entries((2, 2), [(1, 0), (1, 0), (0, 0)], [2.0, 2.0, -1.0])
    x = repeating.make(entries)
    clipped = agclip.clip_by_value(x, -2, 2)
    assert repeating.dense(clipped).tolist() == [[-1.0, 0.0], [2.0, 0.0]]
    assert repeating.indices(clipped) == repeating.indices(x)


def test_elements_between_the_bounds_are_kept(sparse, rows):
    clipped = agclip.clip_by_value(sparse.make(rows), None, 100)
    assert sparse.dense(clipped).tolist() == [[8.0, 0.0], [6.0, 0.0]]


def test_a_sum_that_leaves_the_range_between_is_right(repeating):
    places = [(1, 0)] * 3
    x = repeating.make(Entries((2, 2), places, [60000.0, 60000.0, -60000.0], "float16"))
    assert repeating.dense(agclip.clip_by_value(x, None, 65504))[1, 0] == 60000.0


def test_integers_saturate_before_they_are_clipped(repeating):
    x = repeating.make(Entries((2, 2), [(1, 0), (1, 0)], [100, 100], "int8"))
    clipped = agclip.clip_by_value(x, -110, 110)
    assert repeating.dense(clipped).tolist() == [[0, 0], [110, 0]]
    assert repeating.values(clipped).dtype == np.int8


def test_a_loss_scale_divides_before_elements_are_clipped(repeating, rows):
    clipped = agclip.clip_by_value(repeating.make(rows), -3.5, 3.5, loss_scale=2.0)
    assert repeating.dense(clipped).tolist() == [[3.5, 0.0], [3.0, 0.0]]


@pytest.mark.parametrize("bounds", [(1.0, 9.0), (-9.0, -1.0), (1.0, None)])
def test_zeros_that_would_have_to_be_stored_are_refused(sparse, rows, bounds):
    x = sparse.make(rows)
    before = sparse.values(x).tolist()
    if not sparse.fills:
        with pytest.raises(TypeError, match="whose other elements are zero"):
            agclip.clip_by_value([x], *bounds)
        assert sparse.values(x).tolist() == before
        return
    wanted = np.clip(rows.dense(), *bounds)
    got = agclip.clip_by_value([x], *bounds)[0]
    assert sparse.dense(got)[:, 0].tolist() == wanted[:, 0].tolist()
    assert sparse.indices(got) == sparse.indices(x)


# --- in place ----------------------------------------------------------------------------------


def test_in_place_the_stored_values_are_overwritten(writable, rows):
    x = writable.make(rows)
    where = writable.indices(x)
    tree = {"w": x, "b": writable.library.array([0.0, 24.0])}
    result, norm = agclip.clip_by_global_norm_(tree, 13.0)
    assert result is tree
    assert tree["w"] is x
    assert number(norm) == 26.0
    assert writable.dense(x).tolist() == [[4.0, 0.0], [3.0, 0.0]]
    assert writable.indices(x) == where


def test_in_place_elements_are_clipped_as_the_dense_array_has_them(writable):
    x = writable.make(Entries((2, 2), [(1, 0), (1, 0), (0, 0)], [2.0, 2.0, -1.0]))
    where = writable.indices(x)
    assert agclip.clip_by_value_(x, -2, 2) is x
    assert writable.dense(x).tolist() == [[-1.0, 0.0], [2.0, 0.0]]
    assert writable.indices(x) == where


def test_in_place_all_is_written_or_nothing(writable, rows):
    x = writable.make(rows)
    before = writable.values(x).tolist()
    for bad in (arrays.library("torch").array([1], "int32"), "abc"):
        with pytest.raises(TypeError):
            agclip.clip_by_global_norm_([x, bad], 1.0)
    with pytest.raises(TypeError, match="whose other elements are zero"):
        agclip.clip_by_value_([writable.library.array([9.0]), x], 1, 2)
    assert writable.values(x).tolist() == before


def test_in_place_an_object_that_the_tree_holds_twice_is_multiplied_once(writable, rows):
    x = writable.make(rows)
    _, norm = agclip.clip_by_global_norm_([x, x], 5.0 * 2**0.5)
    assert number(norm) == pytest.approx(10 * 2**0.5)
    assert writable.dense(x).ravel().tolist() == pytest.approx([4.0, 0.0, 3.0, 0.0])


def test_what_cannot_be_written_says_so(sparse, rows):
    if sparse.writable:
        pytest.skip("it can be written")
    x = sparse.make(rows)
    before = sparse.values(x).tolist()
    with pytest.raises(TypeError, match=r"written in place; got one that is (immutable|sparse)"):
        agclip.clip_by_norm_([x], 1.0)
    assert sparse.values(x).tolist() == before


# --- sizes -------------------------------------------------------------------------------------


def test_nothing_stored(sparse):
    x = sparse.make(Entries((2, 2), [], []))
    assert number(agclip.global_norm([x])) == 0.0
    assert agclip.clip_by_norm([x], 1.0)[0].shape == x.shape
    assert not sparse.dense(agclip.clip_by_value(x, -1, 1)).any()


def test_a_tree_of_nothing_but_none(sparse):
    del sparse
    with pytest.warns(UserWarning, match="holds no array"):
        assert agclip.clip_by_norm([None], 1.0) == [None]
