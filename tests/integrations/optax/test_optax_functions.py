"""Function × way to take steps: optax's names, agclip's sums, the oracle's results."""

import math

import pytest

pytest.importorskip("optax", reason="optax is not installed")

import jax
import jax.numpy as jnp
import numpy as np
import optax

import matrix
from agclip.integrations import optax as ours
from integrations.optax.combinators import WAYS, stepped
from oracle import subjects as oracle
from thinned import thinned

PLAIN = matrix.KINDS["plain"]


def by_columns(clipping, eps=1e-3):
    """Clip the columns of matrices, and vectors whole, by the norms of their weights."""

    def of_leaf(leaf):
        width = leaf.shape[-1] if len(leaf.shape) > 1 else 1
        weights, out = matrix.WEIGHTS[leaf.name], list(leaf.entries)
        for i in range(width):
            mine = slice(i, None, width)
            bound = clipping * max(oracle.norm(weights[mine]), eps)
            out[mine] = oracle.group(out[mine], oracle.norm(out[mine]), bound, "propagate")
        return out

    return lambda run, policy: [[of_leaf(leaf) for leaf in leaves] for leaves in run]


FUNCTIONS = {
    "clip": (lambda: ours.clip(1.0), oracle.by_value(-1.0, 1.0)),
    "clip_by_block_rms": (
        lambda: ours.clip_by_block_rms(0.5),
        oracle.by_norm(0.5, share=math.sqrt),
    ),
    "clip_by_global_norm": (lambda: ours.clip_by_global_norm(1.0), oracle.by_global_norm(1.0)),
    "adaptive_grad_clip": (lambda: ours.adaptive_grad_clip(0.5), by_columns(0.5)),
}


def cells():
    pairs = [(name, way) for name in FUNCTIONS for way in WAYS if way != "orbax"]
    return thinned(pairs, lambda cell: cell[1] in ("eager", "jit"), ids="-".join, tuples=True)


def library(dtype):
    class Library:
        @staticmethod
        def array(nested):
            return jnp.asarray(np.asarray(nested, np.float64), dtype)

    return Library


@pytest.mark.parametrize(("name", "way"), cells())
def test_what_comes_out_is_what_the_oracle_says(name, way):
    make, wanted = FUNCTIONS[name]
    trees, params = matrix.trees_of(PLAIN, library(jnp.float32))
    results = WAYS[way](make(), params, trees)
    for result, tree, step in zip(
        results, trees, wanted(matrix.run_of(PLAIN), "propagate"), strict=True
    ):
        assert jax.tree.structure(result) == jax.tree.structure(tree)
        for key, right in zip(tree, step, strict=True):
            assert result[key].ravel().tolist() == pytest.approx(right, rel=3e-7)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_leaves_keep_their_dtype(name, dtype):
    make, _ = FUNCTIONS[name]
    trees, params = matrix.trees_of(PLAIN, library(dtype))
    (out,) = stepped(make(), params, trees[:1])
    assert {leaf.dtype.name for leaf in jax.tree.leaves(out)} == {dtype}


BOUNDS = {
    "clip": "max_delta",
    "clip_by_block_rms": "threshold",
    "clip_by_global_norm": "max_norm",
    "adaptive_grad_clip": "clipping",
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", BOUNDS)
def test_the_bound_is_injected_and_changed_without_compiling_anew(name, dtype):
    key = BOUNDS[name]
    make = optax.inject_hyperparams(getattr(ours, name), hyperparam_dtype=jnp.dtype(dtype))
    grads, params = {"w": jnp.asarray([30.0, 40.0])}, {"w": jnp.ones(2)}
    tx, traces = make(**{key: 1.0}), []

    @jax.jit
    def update(grads, state, params):
        traces.append(1)
        return tx.update(grads, state, params)

    before, state = update(grads, tx.init(params), params)
    state.hyperparams[key] = jnp.asarray(0.5, dtype)
    after, _ = update(grads, state, params)
    assert (before["w"] / after["w"]).tolist() == pytest.approx([2.0, 2.0])
    assert len(traces) == 1


def test_the_bound_follows_a_schedule():
    schedule = optax.linear_schedule(2.0, 1.0, 2)
    tx = optax.inject_hyperparams(ours.clip_by_global_norm)(max_norm=schedule)
    state, norms = tx.init(jnp.ones(2)), []
    for _ in range(3):
        new, state = tx.update(jnp.asarray([3.0, 4.0]), state)
        norms.append(float(jnp.linalg.norm(new)))
    assert norms == pytest.approx([2.0, 1.5, 1.0])


@pytest.mark.parametrize("bound", [jnp.asarray([1.0]), np.asarray([[1.0]]), np.float32(1.0)])
def test_a_bound_of_one_element(bound):
    for name in BOUNDS:
        tx = getattr(ours, name)(bound)
        new, _ = tx.update(jnp.asarray([3.0, 4.0]), tx.init(None), jnp.asarray([0.6, 0.8]))
        assert new.shape == (2,)
        assert float(jnp.max(new)) <= 1.2


def test_bounds_for_each_element():
    tx = ours.clip(jnp.asarray([1.0, 2.0]))
    assert tx.update(jnp.asarray([[-3.0, 4.0]]), ())[0].tolist() == [[-1.0, 2.0]]


# --- per example -------------------------------------------------------------------------------

EXAMPLES = [[3.0, 4.0], [0.25, -0.5], [0.0, 0.0], [-6.0, 8.0]]
MORE = [[[1.0]], [[2.0]], [[0.0]], [[-1.0]]]


def examples_of(grads):
    return [
        oracle.Leaf(str(i), np.shape(leaf), np.ravel(leaf).tolist()) for i, leaf in enumerate(grads)
    ]


@pytest.mark.parametrize("compiled", [False, True])
def test_the_sum_of_examples(compiled):
    function = ours.per_example_global_norm_clip
    function = jax.jit(function) if compiled else function
    total, count = function([jnp.asarray(EXAMPLES), jnp.asarray(MORE)], 2.5)
    wanted = oracle.per_example(2.5)([examples_of([EXAMPLES, MORE])], "propagate")[0]
    assert [leaf.ravel().tolist() for leaf in total] == [pytest.approx(one) for one in wanted]
    assert int(count) == 2


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_sum_of_examples_leaf_by_leaf(compiled, uniform):
    function = ours.per_example_layer_norm_clip
    function = jax.jit(function, static_argnames="uniform") if compiled else function
    grads = {"w": jnp.asarray(EXAMPLES), "b": None, "v": jnp.asarray(MORE)}
    total, counts = function(grads, 3.0, uniform=uniform)
    shares = {"w": 1 / 2, "v": 1 / 2} if uniform else {"w": 2 / 3, "v": 1 / 3}
    for key, entries in (("w", EXAMPLES), ("v", MORE)):
        bound = 3.0 * math.sqrt(shares[key])
        (wanted,) = oracle.per_example(bound)([examples_of([entries])], "propagate")[0]
        assert total[key].ravel().tolist() == pytest.approx(wanted)
        sizes = [np.linalg.norm(np.ravel(one)) for one in entries]
        assert int(counts[key]) == sum(size > bound for size in sizes)
    assert total["b"] is None
    assert counts["b"] is None


@pytest.mark.parametrize("name", ["per_example_global_norm_clip", "per_example_layer_norm_clip"])
def test_no_bound_sums_what_is_there(name):
    total, _ = getattr(ours, name)([jnp.asarray(EXAMPLES)], None)
    assert total[0].tolist() == np.sum(EXAMPLES, axis=0).tolist()


def test_no_examples_at_all():
    total, counts = ours.per_example_layer_norm_clip([jnp.ones((0, 3))], 1.0, uniform=False)
    assert total[0].tolist() == [0.0] * 3
    assert int(counts[0]) == 0


def test_a_tree_without_examples():
    with pytest.warns(UserWarning, match="holds no array"):
        total, count = ours.per_example_global_norm_clip([], 1.0)
    assert total == []
    assert isinstance(count, jax.Array)
    assert int(count) == 0
