"""Graphs with sessions, bounds of every kind, shapes that do not fit.

TensorFlow's own tests of the four functions pass with agclip's in their place, but for those of
IndexedSlices (TensorFlow 2.21): as they are written, eagerly, inside of functions and by XLA. These
are the cases that they make and that the others here do not.
"""

import itertools

import numpy as np
import pytest

import agclip

DTYPES = ("bfloat16", "float16", "float32", "float64", "uint8", "int16", "int32", "int64")


@pytest.fixture(scope="module")
def tf(need_backend):
    need_backend("tensorflow")
    return pytest.importorskip("tensorflow")


@pytest.fixture
def run(tf):
    """A function that builds a graph of the first version, and returns what a session fetches."""

    def call(build, *fed):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            inputs = [tf.compat.v1.placeholder(tf.float32, shape=None) for _ in fed]
            return session.run(build(*inputs), dict(zip(inputs, map(np.float32, fed), strict=True)))

    return call


@pytest.fixture(params=["eager", "function", "session"])
def evaluated(request, tf, run):
    """A function that calls another one that makes tensors, and returns them as arrays."""
    if request.param == "session":
        return run
    if request.param == "eager":
        return lambda build: tf.nest.map_structure(lambda x: x.numpy(), build())
    return lambda build: tf.nest.map_structure(
        lambda x: x.numpy(), tf.function(build, autograph=False)()
    )


# --- sessions ----------------------------------------------------------------------------------


def test_what_is_fed_is_clipped(run):
    def build(x):
        clipped, norm = agclip.clip_by_global_norm((x, None, 2.0 * x), 5.0)
        assert clipped[1] is None
        return clipped[0], clipped[2], norm

    first, second, norm = run(build, [2.0, 4.0])
    assert np.allclose(norm, 10.0)
    assert np.allclose(first, [1.0, 2.0])
    assert np.allclose(second, [2.0, 4.0])


def test_one_graph_serves_leaves_beyond_and_within_the_bound(tf):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, shape=[None, 2])
        y = agclip.clip_by_norm(x, 5.0)
        for values, wanted in (
            ([[6.0, 8.0]], [[3.0, 4.0]]),
            ([[3.0, 4.0]], [[3.0, 4.0]]),
            (np.zeros((0, 2)), np.zeros((0, 2))),
        ):
            got = session.run(y, {x: values})
            assert got.shape == np.shape(wanted)
            assert np.allclose(got, wanted)


@pytest.mark.parametrize(
    "bounds",
    list(itertools.product(("number", "placeholder"), repeat=2)),
    ids="-".join,
)
def test_an_empty_tensor_of_unknown_shape_has_bounds_of_any_kind(run, bounds):
    def build(x):
        low, high = (x if kind == "placeholder" else 1.0 for kind in bounds)
        return agclip.clip_by_value(x, low, high)

    assert run(build, np.zeros((5, 0))).shape == (5, 0)


@pytest.mark.parametrize("size", [0.5, 8.0])
def test_derivatives_in_a_session(tf, run, size):
    def build(x):
        return tf.compat.v1.gradients(agclip.clip_by_norm(x, 2.0), x)[0]

    x = np.float32([0.6, 0.8]) * size
    wanted = [1.0, 1.0]
    if size > 2:  # the sum of the rows of c/n (1 - x xᵀ/n²)
        unit = x / size
        wanted = 2.0 / size * (1 - unit * unit.sum())
    assert np.allclose(run(build, x), wanted, 1e-5, 1e-6)


def test_a_leaf_that_is_large_in_a_session(run):
    x = np.random.default_rng(2).standard_normal(100_003).astype(np.float32)
    got = run(lambda x: agclip.clip_by_norm(x, 1.0), x)
    assert np.allclose(got, agclip.clip_by_norm(x, 1.0), 3e-7, 0)


def test_a_sum_of_scalars_is_of_those_that_are_given(tf):
    total = agclip.get_backend("tensorflow").total

    @tf.function(autograph=False)
    def sums(x):
        one, other = tf.unstack(x)
        pairs = ([one, other], [other, other], [one, 2.0 * other])
        return [total(None, pair) for pair in pairs]

    assert [x.numpy() for x in sums(tf.constant([1.0, 4.0]))] == [5.0, 8.0, 9.0]


# --- bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("low", ["number", "tensor"])
@pytest.mark.parametrize("high", ["number", "tensor"])
def test_a_bound_is_a_number_or_a_tensor_of_the_dtype(tf, evaluated, dtype, low, high):
    lows, highs = np.array([[1, 4, 3]]), np.array([[6, 7, 3]])

    def build():
        x = tf.constant([[0, 9, 5]], dtype)
        return agclip.clip_by_value(
            x,
            3 if low == "number" else tf.constant(lows, dtype),
            6 if high == "number" else tf.constant(highs, dtype),
        )

    wanted = np.clip([[0, 9, 5]], 3 if low == "number" else lows, 6 if high == "number" else highs)
    got = evaluated(build)
    assert got.dtype == tf.as_dtype(dtype).as_numpy_dtype
    assert got.tolist() == wanted.tolist()


@pytest.mark.parametrize("bound", ["numbers", "tensors"])
def test_the_derivative_of_a_value_clip_is_zero_outside(tf, evaluated, bound):
    def build():
        x = tf.constant([-2.0, 0.25, 0.5, 7.0])
        ends = (-1.0, 0.375) if bound == "numbers" else (tf.fill([4], -1.0), tf.fill([4], 0.375))
        if not tf.executing_eagerly():
            return tf.gradients(3.0 * agclip.clip_by_value(x, *ends), x)[0]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = 3.0 * agclip.clip_by_value(x, *ends)
        return tape.gradient(y, x)

    assert evaluated(build).tolist() == [0.0, 3.0, 0.0, 0.0]


def test_an_average_norm_is_the_norm_over_the_number_of_elements(tf, evaluated):
    def build():
        x = tf.constant([[5.0, -2.0], [1.0, 0.5], [0.25, 9.0]])
        bound = tf.constant(0.75)
        size = tf.cast(tf.size(x), tf.float32)
        return agclip.clip_by_average_norm(x, bound), agclip.clip_by_norm(x, bound * size)

    average, whole = evaluated(build)
    assert np.allclose(average, whole, 2e-7, 0)


# --- shapes ------------------------------------------------------------------------------------

MISFITS = {
    "value: both": lambda tf, x, v: agclip.clip_by_value(x, -v, v),
    "value: low": lambda tf, x, v: agclip.clip_by_value(x, v, 1.0),
    "value: high": lambda tf, x, v: agclip.clip_by_value(x, 1.0, v),
    "norm": lambda tf, x, v: agclip.clip_by_norm(x, v),
    "average": lambda tf, x, v: agclip.clip_by_average_norm(x, v),
    "global": lambda tf, x, v: agclip.clip_by_global_norm([x], v),
    "global, norm": lambda tf, x, v: agclip.clip_by_global_norm([x], 1.0, use_norm=v),
}


@pytest.mark.parametrize("call", MISFITS.values(), ids=MISFITS)
def test_a_bound_of_another_shape_is_refused(tf, evaluated, call):
    with pytest.raises(ValueError, match="must"):
        evaluated(lambda: call(tf, tf.ones([2, 3, 1]), tf.constant([1.0, 2.0])))
