"""(Function | rule) × (new | in place) × library × kind of tree: no cell is picked by hand."""

import inspect
import math

import numpy as np
import pytest

import agclip
import arrays
import matrix
from matrix import entries, require_nothing_written
from thinned import thinned

pytest_plugins = ["matrix_fixtures"]
# array_api_strict and Dask compute with NumPy, which warns of what the rules look for.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

NO_CLIPS = {"Clipper", "ClipInfo", "Rule"}
IMMUTABLE = sorted(set(arrays.LIBRARIES) - set(arrays.WRITABLE))
QUICK = {
    "jax": ("nested", "nan, zero"),
    "dask": ("nan, zero",),
    "tensorflow": ("nested", "foreign", "an empty leaf", "nan, zero", "inf, skip"),
    "array_api_strict": ("nested", "foreign", "an empty leaf", "nan, zero", "shared memory"),
    "mlx": ("nested", "foreign", "an empty leaf", "nan, zero", "inf, skip", "shared memory"),
}
"""The kinds of trees that `make test` has of libraries that take longer; `make test-all`: all."""


def is_quick(cell):
    name, kind = cell
    return kind in QUICK.get(name, (kind,))


def cells(libraries):
    found = [(name, kind) for name in libraries for kind in matrix.KINDS]
    return thinned(found, is_quick, ids="-".join)


@pytest.fixture(params=cells(arrays.LIBRARIES))
def cell(request):
    """A library and a kind of tree."""
    name, kind = request.param
    return arrays.library(name), matrix.KINDS[kind]


@pytest.fixture(params=cells(arrays.WRITABLE))
def writable_cell(request):
    name, kind = request.param
    return arrays.library(name), matrix.KINDS[kind]


@pytest.fixture(params=cells(IMMUTABLE))
def immutable_cell(request):
    name, kind = request.param
    return arrays.library(name), matrix.KINDS[kind]


@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=arrays.WRITABLE)
def writable(request):
    return arrays.library(request.param)


def taken(subject, kind, lib, *, inplace):
    """What a run gives: the entries of every step, states and records, and the trees given in."""
    trees, params = matrix.trees_of(kind, lib)
    with matrix.setting(kind, lib):
        results, facts = subject.run(trees, params, kind.policy, inplace=inplace)
    return [entries(lib, one) for one in results], repr(facts), trees


def outline(tree):
    """The containers of a tree, their keys, and the places of None."""
    if isinstance(tree, dict):
        return type(tree), [(key, outline(child)) for key, child in tree.items()]
    if isinstance(tree, (list, tuple)):
        return type(tree), [outline(child) for child in tree]
    return None if tree is None else type(tree)


def test_no_public_clip_or_rule_is_missing():
    functions = {name for name in agclip.__all__ if name.strip("_").startswith(("clip", "adapt"))}
    rules = {name for name in agclip.rules.__all__ if inspect.isclass(getattr(agclip, name))}
    twins = {one.public + "_" for one in matrix.SUBJECTS.values() if one.inplace}
    known = {one.public for one in matrix.SUBJECTS.values()}
    assert functions | rules - NO_CLIPS == known | (twins & set(agclip.__all__))


def test_new_arrays_are_what_the_oracle_says(cell, subject):
    lib, kind = cell
    wanted = subject.oracle(matrix.run_of(kind), kind.policy)
    trees, params = matrix.trees_of(kind, lib)
    before = [entries(lib, tree) for tree in trees]
    with matrix.setting(kind, lib):
        results, _ = subject.run(trees, params, kind.policy, inplace=False)
    for result, tree, step in zip(results, trees, wanted, strict=True):
        assert outline(result) == outline(tree)
        for got, right in zip(entries(lib, result), step, strict=True):
            assert got == pytest.approx(right, rel=3e-7, abs=1e-12, nan_ok=True)
    np.testing.assert_equal([entries(lib, tree) for tree in trees], before)


def test_in_place_is_new_to_the_bit_and_so_are_states_and_records(writable_cell, twin):
    writable, kind = writable_cell
    new, facts, _ = taken(twin, kind, writable, inplace=False)
    trees, params = matrix.trees_of(kind, writable)
    held = [matrix.leaves_of(tree) for tree in trees]
    with matrix.setting(kind, writable):
        results, found = twin.run(trees, params, kind.policy, inplace=True)
    assert repr([entries(writable, tree) for tree in trees]) == repr(new)
    assert all(result is tree for result, tree in zip(results, trees, strict=True))
    assert all(
        one is other
        for before, tree in zip(held, trees, strict=True)
        for one, other in zip(before, matrix.leaves_of(tree), strict=True)
    )
    assert repr(found) == facts


def test_arrays_that_cannot_be_written_are_refused_and_kept(immutable_cell, twin):
    immutable, kind = immutable_cell
    trees, params = matrix.trees_of(kind, immutable)
    before = [entries(immutable, tree) for tree in trees]
    with matrix.setting(kind, immutable), pytest.raises(TypeError, match="written in place"):
        twin.run(trees, params, kind.policy, inplace=True)
    np.testing.assert_equal([entries(immutable, tree) for tree in trees], before)


def _read_only(lib):
    return agclip.get_backend(lib.name).xp.broadcast_to(lib.array([2.0]), (2,))


WRONG = {
    "truth values": lambda lib: lib.array([True, False], "bool"),
    "no array": lambda _: "abc",
    "another library": lambda lib: arrays.library(
        "torch" if lib.name == "numpy" else "numpy"
    ).array([1.0, 2.0]),
    "read-only": _read_only,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_nothing_is_written_when_the_last_leaf_is_wrong(writable, twin, wrong):
    if wrong == "read-only" and writable.name not in arrays.SHARING:
        pytest.skip(f"no array of {writable.name} is read-only")
    require_nothing_written(twin, writable, WRONG[wrong](writable))


@pytest.fixture(params=[name for name, one in matrix.SUBJECTS.items() if one.policies])
def strict(request):
    return matrix.SUBJECTS[request.param]


def test_nothing_is_written_when_a_later_group_is_not_finite(writable, strict):
    trees, params = matrix.trees_of(matrix.KINDS["plain"], writable)
    tree = {"w": trees[0]["w"], "b": writable.array([1.0, math.nan])}
    before = entries(writable, tree)
    with pytest.raises(FloatingPointError, match="NaN"):
        strict.run([tree], params, "error", inplace=strict.inplace)
    assert repr(entries(writable, tree)) == repr(before)


def test_a_step_without_arrays_warns_once_and_changes_nothing(lib, subject):
    tree = {"w": None, "b": [None]}
    with pytest.warns(UserWarning, match="holds no array") as caught:
        results, _ = subject.run([tree], tree, "propagate", inplace=False)
    assert results == [tree]
    assert len(caught) == 1
