"""Rule × way to take steps: every rule is a transformation like optax's own."""

import functools

import pytest

pytest.importorskip("optax", reason="optax is not installed")

import jax
import jax.numpy as jnp
import numpy as np

import matrix
from agclip.integrations.optax import as_gradient_transformation
from integrations.optax.combinators import WAYS
from thinned import thinned

RULES = [name for name, one in matrix.SUBJECTS.items() if one.make is not None]
PLAIN = matrix.KINDS["plain"]
QUICK = ("AdaGC",)
"""The rules that `make test` compiles in every way; and some in one; `make test-all`: all."""
ONCE = ("ClipByGlobalNorm", "ZClip", "SpikeClip", "PerGroup", "Chain")


def cells():
    pairs = [(name, way) for name in RULES for way in WAYS]
    return thinned(
        pairs,
        lambda cell: cell[0] in QUICK or (cell[0] in ONCE and cell[1] == "donated"),
        ids="-".join,
        tuples=True,
    )


@pytest.fixture
def steps():
    """The trees of every step, and the parameters, as arrays of JAX."""

    class Library:
        @staticmethod
        def array(nested):
            return jnp.asarray(np.asarray(nested, np.float32))

    return matrix.trees_of(PLAIN, Library)


@pytest.mark.parametrize(("name", "way"), cells())
def test_what_comes_out_is_what_the_oracle_says(name, way, steps, tmp_path):
    subject, take = matrix.SUBJECTS[name], WAYS[way]
    if way == "orbax":
        take = functools.partial(take, folder=tmp_path)
    trees, params = steps
    tx = as_gradient_transformation(subject.make(nonfinite="propagate"), leaf_norms=True)
    results = take(tx, params, trees)
    wanted = subject.oracle(matrix.run_of(PLAIN), "propagate")
    for result, tree, step in zip(results, trees, wanted, strict=True):
        assert jax.tree.structure(result) == jax.tree.structure(tree)
        for key, right in zip(tree, step, strict=True):
            # States are float32: their statistics are as near as that.
            assert result[key].ravel().tolist() == pytest.approx(right, rel=2e-6, abs=1e-12)
