"""(Function | rule) × (new | in place) × sparse format: what the oracle says of the dense array."""

import itertools

import numpy as np
import pytest

import matrix
import sparse_formats
from thinned import thinned

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DENSE = ("axes", "adaptive", "Adaptive", "per_example", "Spike")
"""In the names of subjects that need the axes, or a value for every element."""
QUICK = ("torch-coo", "sparse-coo")
COMPILED = ("clip_by_norm", "clip_by_value")
"""The subjects with which `make test` runs the formats that take longer."""
SLOW = ("torch-csr", "jax-bcoo-padded", "tensorflow-slices")
KINDS = {
    "plain": matrix.Kind(dict),
    "nan": matrix.Kind(dict, policy="zero", bad=float("nan")),
    "inf": matrix.Kind(dict, policy="skip", bad=float("-inf")),
}


def is_quick(cell):
    name, subject, kind = cell
    if kind != "plain":
        return (name, subject) == ("torch-coo", "clip_by_global_norm")
    return name in QUICK or (name in SLOW and subject in COMPILED)


CELLS = [
    cell
    for cell in itertools.product(sparse_formats.FORMATS, matrix.SUBJECTS, KINDS)
    if not any(word in cell[1] for word in DENSE)
]
WRITABLE = [
    cell
    for cell in CELLS
    if cell[0].startswith("torch") and cell[2] == "plain" and matrix.SUBJECTS[cell[1]].inplace
]


@pytest.fixture(params=thinned(CELLS, is_quick, ids="-".join))
def cell(request):
    """A format, a subject, and a kind of tree."""
    name, subject, kind = request.param
    return sparse_formats.get(name), matrix.SUBJECTS[subject], KINDS[kind]


@pytest.fixture(params=thinned(WRITABLE, is_quick, ids="-".join))
def writable_cell(request):
    name, subject, kind = request.param
    return sparse_formats.get(name), matrix.SUBJECTS[subject], KINDS[kind]


@pytest.fixture(params=[one for one in matrix.SUBJECTS if any(word in one for word in DENSE)])
def dense_subject(request):
    return matrix.SUBJECTS[request.param]


@pytest.fixture(params=sparse_formats.FORMATS)
def sparse(request):
    return sparse_formats.get(request.param)


def trees_of(sparse, kind):
    """The trees of every step, a sparse matrix and a dense vector; and one of parameters."""

    def tree(leaves):
        made = {
            leaf.name: np.array(leaf.entries, np.float32).reshape(leaf.shape) for leaf in leaves
        }
        entries = (sparse_formats.split if sparse.repeats else sparse_formats.joined)(made["w"])
        return {"w": sparse.make(entries), "b": sparse.library.array(made["b"])}

    params = {leaf.name: matrix.WEIGHTS[leaf.name] for leaf in matrix.BASE}
    shaped = {leaf.name: np.reshape(params[leaf.name], leaf.shape) for leaf in matrix.BASE}
    return [*map(tree, matrix.run_of(kind))], {
        name: sparse.library.array(x) for name, x in shaped.items()
    }


def entries(sparse, tree):
    whole = sparse.dense(tree["w"]), sparse.library.entries(tree["b"])
    return [x.ravel().tolist() for x in whole]


def numbers(x):
    """All numbers in states and records."""
    if isinstance(x, dict):
        return [number for value in x.values() for number in numbers(value)]
    if isinstance(x, (list, tuple)):
        return [number for value in x for number in numbers(value)]
    return [] if x is None or isinstance(x, str) else [float(x)]


def test_what_comes_out_is_what_the_oracle_says_of_dense_arrays(cell):
    sparse, subject, kind = cell
    wanted = subject.oracle(matrix.run_of(kind), kind.policy)
    trees, params = trees_of(sparse, kind)
    before = [(sparse.values(tree["w"]).tolist(), sparse.indices(tree["w"])) for tree in trees]
    results, facts = subject.run(trees, params, kind.policy, inplace=False)
    for result, tree, step in zip(results, trees, wanted, strict=True):
        assert type(result["w"]) is type(tree["w"])
        assert sparse.indices(result["w"]) == sparse.indices(tree["w"])
        assert sparse.values(result["w"]).dtype == np.float32
        for got, right in zip(entries(sparse, result), step, strict=True):
            assert got == pytest.approx(right, rel=5e-7, abs=1e-12, nan_ok=True)
    after = [(sparse.values(tree["w"]).tolist(), sparse.indices(tree["w"])) for tree in trees]
    np.testing.assert_equal(after, before)
    dense = [{"w": sparse.library.array(sparse.dense(tree["w"])), "b": tree["b"]} for tree in trees]
    _, plain = subject.run(dense, params, kind.policy, inplace=False)
    assert numbers(facts) == pytest.approx(numbers(plain), rel=3e-7, nan_ok=True)


def test_in_place_writes_what_new_arrays_would_hold(writable_cell):
    sparse, subject, kind = writable_cell
    trees, params = trees_of(sparse, kind)
    new, facts = subject.run(trees, params, kind.policy, inplace=False)
    trees, params = trees_of(sparse, kind)
    held = [(tree["w"], sparse.indices(tree["w"])) for tree in trees]
    results, found = subject.run(trees, params, kind.policy, inplace=True)
    for result, tree, (w, where), wanted in zip(results, trees, held, new, strict=True):
        assert result is tree
        assert tree["w"] is w
        assert sparse.indices(w) == where
        assert sparse.values(w).tolist() == sparse.values(wanted["w"]).tolist()
        assert tree["b"].tolist() == wanted["b"].tolist()
    assert repr(found) == repr(facts)


def test_what_needs_dense_arrays_says_so(sparse, dense_subject):
    trees, params = trees_of(sparse, KINDS["plain"])
    with pytest.raises(TypeError, match=r"must hold dense arrays where .* at \w+\['w'\]"):
        dense_subject.run(trees, params, "propagate", inplace=False)
