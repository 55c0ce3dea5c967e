"""The rows of "Moving from optax" in docs/optax.md, against the live functions."""

import inspect
import math

import pytest

pytest.importorskip("optax", reason="optax is not installed")

import jax
import jax.numpy as jnp
import numpy as np
import optax

from agclip.integrations import optax as ours
from thinned import thinned

LIBRARIES = {"optax": optax, "agclip": ours}
WHOLE = ("clip_by_global_norm", "clip_by_block_rms")


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


def clipped(library, name, bound, updates, params=None):
    tx = getattr(library, name)(bound)
    return tx.update(updates, tx.init(updates), params)[0]


# --- the same ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted(set(ours.__all__) - {"ClipState", "as_gradient_transformation"})
)
def test_the_same_signature(name):
    theirs, own = (inspect.signature(getattr(lib, name)).parameters for lib in (optax, ours))
    assert list(own) == list(theirs)
    assert [p.default for p in own.values()] == [p.default for p in theirs.values()]


def test_the_same_state(library):
    for name in ("clip", *WHOLE, "adaptive_grad_clip"):
        tx = getattr(library, name)(1.0)
        assert isinstance(tx, optax.GradientTransformation)
        assert tx.init({"w": jnp.ones(2)}) == optax.EmptyState()


def test_none_and_masked_nodes_are_kept(library):
    tree = {"a": None, "b": optax.MaskedNode(), "w": jnp.asarray([3.0, 4.0])}
    for name in ("clip", *WHOLE, "adaptive_grad_clip"):
        out = clipped(library, name, 0.0, tree, tree)
        assert out["a"] is None
        assert out["b"] == optax.MaskedNode()
        assert out["w"].tolist() == [0.0, 0.0]


def test_nothing_is_said_of_an_empty_tree(library):
    for name in ("clip", *WHOLE, "adaptive_grad_clip"):
        assert clipped(library, name, 1.0, {"w": None}, {"w": None}) == {"w": None}


def test_nan_stays_by_value_and_fills_by_norm(library):
    x = jnp.asarray([3.0, math.nan])
    np.testing.assert_equal(np.asarray(clipped(library, "clip", 1.0, x)), [1.0, math.nan])
    for name in (*WHOLE, "adaptive_grad_clip"):
        assert jnp.isnan(clipped(library, name, 1.0, x, x)).all()


def test_an_infinity_becomes_the_bound_by_value(library):
    assert clipped(library, "clip", 1.0, jnp.asarray([0.5, -math.inf])).tolist() == [0.5, -1.0]


def test_integers_by_value(library):
    x = jnp.asarray([3, -4])
    assert clipped(library, "clip", 1, x).dtype == jnp.int32
    assert clipped(library, "clip", 1.0, x).dtype == jnp.float32
    assert clipped(library, "clip", 1, x).tolist() == [1, -1]


def test_integers_by_norms_become_floats(library):
    x = jnp.asarray([[3, 4]])
    for name in ("clip_by_block_rms", "adaptive_grad_clip"):
        assert clipped(library, name, 1.0, x, x).dtype == jnp.float32
    total, _ = library.per_example_global_norm_clip([x], 2.5)
    assert total[0].tolist() == pytest.approx([1.5, 2.0])


def test_integers_by_the_global_norm_are_refused(library):
    with pytest.raises(TypeError, match="int32"):
        clipped(library, "clip_by_global_norm", 1.0, {"w": jnp.asarray([3, 4])})


SHAPES = [(), (3,), (1, 3), (2, 3), (2, 3, 2), (2, 1, 3, 2), (2, 1, 2, 3, 2), (1, 1, 1, 1, 1, 3)]


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), ()], ids=str)
@pytest.mark.parametrize("shape", thinned(SHAPES, keep=((3,), (2, 1, 3, 2)), ids=str))
def test_the_same_units(shape, axis):
    size = max(math.prod(shape), 1)
    params = jnp.linspace(0.5, 2.0, size).reshape(shape)
    updates = jnp.linspace(-1.0, 4.0, size).reshape(shape)
    found = []
    for library in LIBRARIES.values():
        tx = library.adaptive_grad_clip(0.5, 1e-3, axis)
        try:
            found.append(np.asarray(tx.update(updates, tx.init(params), params)[0]))
        except ValueError:
            found.append(np.asarray(math.nan))
    np.testing.assert_allclose(found[1], found[0], rtol=3e-6)


def test_six_axes_take_an_argument(library):
    x = jnp.ones((2,) * 6)
    with pytest.raises(ValueError, match="axis"):
        clipped(library, "adaptive_grad_clip", 0.5, x, x)


def test_no_parameters(library):
    with pytest.raises(ValueError, match="params"):
        clipped(library, "adaptive_grad_clip", 0.5, {"w": jnp.ones(2)})


# --- different ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "right"), [(WHOLE[0], 0.5**0.5), (WHOLE[1], 1.0)])
def test_squares_that_overflow(name, right):
    x = jnp.asarray([1e20, 1e20])
    assert clipped(optax, name, 1.0, x).tolist() == [0.0, 0.0]
    assert clipped(ours, name, 1.0, x).tolist() == pytest.approx([right, right])


def test_squares_of_units_that_overflow():
    x = jnp.asarray([1e20, 1e20])
    assert jnp.isnan(clipped(optax, "adaptive_grad_clip", 0.5, x, x)).all()
    assert clipped(ours, "adaptive_grad_clip", 0.5, x, x).tolist() == pytest.approx([5e19, 5e19])


def test_squares_of_examples_that_overflow():
    grads = [jnp.full((2, 2), 1e20)]
    assert optax.per_example_global_norm_clip(grads, 1.0)[0][0].tolist() == [0.0, 0.0]
    total, count = ours.per_example_global_norm_clip(grads, 1.0)
    assert total[0].tolist() == pytest.approx([2**0.5, 2**0.5])
    assert int(count) == 2


def test_squares_that_underflow():
    x = jnp.asarray([3e-30, 4e-30])
    assert clipped(optax, WHOLE[0], 1e-30, x).tolist() == x.tolist()
    assert clipped(ours, WHOLE[0], 1e-30, x).tolist() == pytest.approx([6e-31, 8e-31])


@pytest.mark.parametrize("name", WHOLE)
def test_zeros_and_a_bound_of_zero(name):
    assert jnp.isnan(clipped(optax, name, 0.0, jnp.zeros(2))).all()
    assert clipped(ours, name, 0.0, jnp.zeros(2)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", WHOLE)
def test_the_derivative_at_zeros(name):
    def slopes(library):
        return jax.grad(lambda x: clipped(library, name, 1.0, x).sum())(jnp.zeros(2))

    assert jnp.isnan(slopes(optax)).all()
    assert slopes(ours).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", WHOLE)
def test_an_infinity(name):
    x = jnp.asarray([1.0, math.inf])
    np.testing.assert_equal(np.asarray(clipped(optax, name, 1.0, x)), [0.0, math.nan])
    assert jnp.isnan(clipped(ours, name, 1.0, x)).all()


def test_examples_that_are_not_finite():
    grads = [jnp.asarray([[1.0, math.nan], [30.0, 40.0]])]
    total, count = optax.per_example_global_norm_clip(grads, 5.0)
    np.testing.assert_allclose(np.asarray(total[0]), [4.0, math.nan])
    assert int(count) == 1
    total, count = ours.per_example_global_norm_clip(grads, 5.0)
    assert jnp.isnan(total[0]).all()
    assert int(count) == 2


NEGATIVE = {
    "clip": [-1.0, -1.0],
    "clip_by_global_norm": [-0.6, -0.8],
    "clip_by_block_rms": [3.0, 4.0],
    "adaptive_grad_clip": [-3.0, -4.0],
}


@pytest.mark.parametrize("name", NEGATIVE)
def test_a_negative_bound(name):
    x = jnp.asarray([3.0, 4.0])
    assert clipped(optax, name, -1.0, x, x).tolist() == pytest.approx(NEGATIVE[name])
    with pytest.raises(ValueError, match=r"got -1\.0"):
        getattr(ours, name)(-1.0)


@pytest.mark.parametrize("name", NEGATIVE)
def test_a_bound_that_is_nan(name):
    x = jnp.asarray([3.0, 4.0])
    assert jnp.isnan(clipped(optax, name, math.nan, x, x)).all()
    with pytest.raises(ValueError, match="got nan"):
        getattr(ours, name)(math.nan)


@pytest.mark.parametrize("name", NEGATIVE)
def test_no_bound(name):
    x = jnp.asarray([3.0, 4.0])
    with pytest.raises(TypeError):
        clipped(optax, name, None, x, x)
    assert clipped(ours, name, None, x, x).tolist() == [3.0, 4.0]


def test_a_vector_of_bounds():
    x, bounds = jnp.asarray([3.0, 4.0]), jnp.asarray([1.0, 2.0])
    scaled = clipped(optax, "clip_by_block_rms", bounds, x)
    assert float(scaled[0] / scaled[1]) != pytest.approx(0.75)  # another direction
    with pytest.raises(ValueError, match="scalar"):
        clipped(ours, "clip_by_block_rms", bounds, x)


def test_small_units_of_small_parameters():
    updates, params = jnp.full(4, 2.5e-7), jnp.zeros(4)  # a norm of 5e-7, the bound 1e-7
    assert clipped(optax, "adaptive_grad_clip", 1e-4, updates, params)[0] == pytest.approx(2.5e-8)
    assert clipped(ours, "adaptive_grad_clip", 1e-4, updates, params)[0] == pytest.approx(5e-8)


def test_half_updates():
    """One rounding by the norm, one by the bound, and the coefficient in eight bits before."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal(1000), jnp.bfloat16)
    exact = np.asarray(x, np.float64) / np.linalg.norm(np.asarray(x, np.float64))

    def wrong(library):
        found = np.asarray(clipped(library, WHOLE[0], 1.0, x).astype(jnp.float32), np.float64)
        return np.sum(found != exact.astype(np.float32).astype(jnp.bfloat16).astype(np.float64))

    assert wrong(optax) > 200
    assert wrong(ours) == 0


def test_a_python_number_is_a_leaf():
    with pytest.raises(AttributeError):
        clipped(optax, WHOLE[0], 1.0, [3.0, 4.0])
    assert clipped(ours, WHOLE[0], 1.0, [3.0, 4.0]) == pytest.approx([0.6, 0.8])


def test_a_sparse_leaf():
    sparse = pytest.importorskip("jax.experimental.sparse")
    x = sparse.BCOO.fromdense(jnp.asarray([0.0, 3.0]))
    (broken,) = clipped(optax, "clip_by_block_rms", 0.5, [x])
    assert broken.indices.dtype == jnp.float32
    with pytest.raises(TypeError, match="dense"):
        clipped(ours, "clip_by_block_rms", 0.5, [x])


def test_a_leaf_without_examples():
    with pytest.raises(IndexError):
        optax.per_example_global_norm_clip([jnp.asarray(1.0)], 1.0)
    with pytest.raises(ValueError, match="leading axis"):
        ours.per_example_global_norm_clip([jnp.asarray(1.0)], 1.0)


def test_the_error_names_the_leaf():
    tree = {"layer": [{"w": jnp.asarray([3, 4])}]}
    with pytest.raises(TypeError) as caught:
        clipped(optax, WHOLE[0], 1.0, tree)
    assert "layer" not in str(caught.value)
    with pytest.raises(TypeError, match=r"updates\['layer\.0\.w'\]"):
        clipped(ours, WHOLE[0], 1.0, tree)
