"""TensorFlow: variables, gradients, functions of unknown shapes, training steps, host memory."""

import itertools
import math

import numpy as np
import pytest

import agclip
from agclip import _as_written
from agclip_backends._host.loader import loader
from thinned import thinned


@pytest.fixture(scope="module")
def tf(need_backend):
    need_backend("tensorflow")
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def keras(tf):
    return pytest.importorskip("keras", reason="Keras is not installed")


@pytest.fixture(params=thinned(["eager", "function", "XLA"], ("eager", "function")))
def called(request, tf):
    """A function that calls another one: directly, or compiled."""
    if request.param == "eager":
        return lambda function, *args: function(*args)
    options = {"autograph": False, "jit_compile": request.param == "XLA"}
    return lambda function, *args: tf.function(function, **options)(*args)


def both(x):
    return agclip.clip_by_norm(x, 2.5)


# --- variables ---------------------------------------------------------------------------------


@pytest.fixture(params=["tensorflow", "keras"])
def variable(request, tf):
    if request.param == "tensorflow":
        return tf.Variable
    return pytest.importorskip("keras", reason="Keras is not installed").Variable


def test_a_variable_is_read(variable, called):
    x = variable([3.0, 4.0])
    assert called(lambda: both(x)).numpy().tolist() == [1.5, 2.0]
    assert called(lambda: agclip.global_norm([x])).numpy() == 5


def test_a_variable_beside_a_tensor_and_none(tf, variable):
    grads = {"a": variable([3.0]), "b": [tf.constant([4.0]), None]}
    clipped, norm = agclip.clip_by_global_norm(grads, 2.5)
    assert clipped["a"].numpy().tolist() == [1.5]
    assert clipped["b"][0].numpy().tolist() == [2.0]
    assert clipped["b"][1] is None
    assert norm.numpy() == 5


def test_numbers_may_be_variables(tf, variable):
    x = tf.constant([3.0, 4.0])
    assert agclip.clip_by_norm(x, variable(2.5)).numpy().tolist() == [1.5, 2.0]
    clipped, _ = agclip.clip_by_global_norm([x], 2.5, use_norm=variable(10.0))
    assert clipped[0].numpy().tolist() == [0.75, 1.0]
    assert agclip.clip_by_value(x, variable(0.0), variable(3.5)).numpy().tolist() == [3.0, 3.5]


def test_a_bound_in_a_variable_changes_without_another_trace(tf):
    bound, traces = tf.Variable(2.5), []

    @tf.function(autograph=False)
    def clip(x):
        traces.append(None)
        return agclip.clip_by_norm(x, bound)

    assert clip(tf.constant([3.0, 4.0])).numpy().tolist() == [1.5, 2.0]
    bound.assign(1.25)
    assert clip(tf.constant([3.0, 4.0])).numpy().tolist() == [0.75, 1.0]
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda tf: tf.constant([3.0]), "that is immutable"),
        (lambda tf: tf.Variable([3.0]), "that is a variable, which only its own `assign`"),
    ],
)
@pytest.mark.parametrize("clip", [agclip.clip_by_norm_, agclip.clip_by_global_norm_])
def test_nothing_is_overwritten(tf, clip, make, reason):
    with pytest.raises(TypeError, match=reason):
        clip([make(tf)], 1.0)


# --- what is no dense array --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda tf: tf.ragged.constant([[1.0], [2.0, 3.0]]), "is ragged"),
        (lambda tf: tf.sparse.from_dense([1.0, 0.0]), r"is sparse \(a tf.SparseTensor\)"),
    ],
)
def test_what_is_not_dense_is_refused(tf, make, reason):
    with pytest.raises(TypeError, match=rf"`t` must hold dense arrays; got one that {reason} at t"):
        agclip.clip_by_norm([tf.constant([1.0]), make(tf)], 1.0)


def test_strings_are_refused(tf):
    with pytest.raises(TypeError, match="got string"):
        agclip.clip_by_norm(tf.constant("abc"), 1.0)


# --- gradients ---------------------------------------------------------------------------------

CLIPS = [
    lambda x: agclip.clip_by_norm(x, 2.5),
    lambda x: agclip.clip_by_norm(x, 2.5, axes=0),
    lambda x: agclip.clip_by_norm(x, 2.5, ord=3),
    lambda x: agclip.clip_by_average_norm(x, 1.25),
    lambda x: agclip.clip_by_rms(x, 2.5),
    lambda x: agclip.clip_by_global_norm([x], 2.5)[0][0],
]


def slope(tf, clip, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = clip(x)
    return tape.gradient(y, x)


@pytest.mark.parametrize("clip", CLIPS)
def test_the_derivative_at_zero_is_one(tf, called, clip):
    found = called(lambda x: slope(tf, clip, x), tf.zeros([3]))
    assert found.numpy().tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("size", thinned([0.1, 3.0], (3.0,)))
def test_derivatives_are_those_of_differences(tf, called, clip, size):
    x = tf.constant(np.array([0.5, -1.0, 2.0]) * size)
    found = called(lambda x: slope(tf, lambda x: tf.reduce_sum(clip(x) * [1.0, 2.0, -1.0]), x), x)
    step, wanted = 1e-6, []
    for i in range(3):
        ends = [clip(x + tf.one_hot(i, 3, dtype=tf.float64) * s) for s in (step, -step)]
        wanted.append(float(tf.reduce_sum((ends[0] - ends[1]) * [1.0, 2.0, -1.0])) / (2 * step))
    assert np.allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-7)


def test_under_a_tape_a_leaf_within_the_bound_is_itself(tf):
    with tf.GradientTape() as tape:
        x = tf.constant([3.0, 4.0])
        tape.watch(x)
        assert agclip.clip_by_norm(x, 10.0) is x


def test_forward_derivatives(tf):
    x = tf.constant([3.0, 4.0])
    with tf.autodiff.ForwardAccumulator(x, tf.constant([1.0, 0.0])) as forward:
        y = both(x)
    assert np.allclose(forward.jvp(y).numpy(), [2.5 * (1 - 9 / 25) / 5, -2.5 * 12 / 125])


# --- functions of unknown shapes ---------------------------------------------------------------

SHAPES = [[None], [None, 2], [None, None], None]
OF_ANY_SHAPE = [
    lambda x: agclip.clip_by_norm(x, 2.5),
    lambda x: agclip.clip_by_norm(x, 2.5, ord=1),
    lambda x: agclip.clip_by_norm(x, 2.5, ord=math.inf),
    lambda x: agclip.clip_by_norm(x, 2.5, ord=3),
    lambda x: agclip.clip_by_norm(x, 2.5, reproducible=True),
    lambda x: agclip.clip_by_average_norm(x, 0.5),
    lambda x: agclip.clip_by_rms(x, 0.5),
    lambda x: agclip.clip_by_global_norm([x, None], 2.5)[0][0],
    lambda x: agclip.clip_by_value(x, -1.0, 3.5),
    lambda x: agclip.ClipByGlobalNorm(2.5).update(x, ())[0],
]


@pytest.mark.parametrize("clip", OF_ANY_SHAPE)
@pytest.mark.parametrize("shape", thinned(SHAPES, ([None, 2], None), ids=str))
@pytest.mark.parametrize("dtype", thinned(["float32", "float64"], ("float32",)))
def test_lengths_need_not_be_known(tf, shape, clip, dtype):
    rank = len(shape) if shape else 1
    function = tf.function(clip, input_signature=[tf.TensorSpec(shape, dtype)], autograph=False)
    for values in ([3.0, -4.0], [0.1, 0.2], [0.0, 0.0], [math.nan, 1.0]):
        x = tf.constant(np.reshape(values, (-1, 2)[-rank:] if rank == 2 else (2,)), dtype)
        assert np.allclose(function(x), clip(x), 1e-6, equal_nan=True)
    empty = tf.zeros([0, 2][:rank], dtype)
    assert function(empty).shape == empty.shape


@pytest.mark.parametrize("order", [1, 2, 3.0, math.inf])
def test_the_norm_of_no_entries_is_zero_where_their_number_is_not_known(tf, order):
    signature = [tf.TensorSpec([None])]
    function = tf.function(
        lambda x: agclip.global_norm(x, order), input_signature=signature, autograph=False
    )
    assert function(tf.zeros([0])).numpy() == 0.0
    assert function(tf.constant([0.0, -2.0])).numpy() == 2.0


def along_units(x):
    return agclip.adaptive_grad_clip(x, x + 1, 0.1, unit_axes="in_out")


@pytest.mark.parametrize(
    "clip",
    [
        lambda x: agclip.clip_by_norm(x, 2.5, axes=-1),
        lambda x: agclip.clip_by_norm(x, 2.5, axes=0, ord=math.inf),
        lambda x: agclip.clip_per_example(x, 2.5)[0],
        along_units,
    ],
)
def test_nor_along_axes(tf, clip):
    function = tf.function(clip, input_signature=[tf.TensorSpec([None, None])], autograph=False)
    x = tf.constant([[3.0, 4.0], [0.5, 0.5], [0.0, 0.0]])
    assert np.allclose(function(x), clip(x), 1e-6)


@pytest.mark.parametrize(
    "clip",
    [
        lambda x: agclip.clip_by_norm(x, 2.5, axes=0),
        lambda x: agclip.clip_per_example(x, 2.5),
        along_units,
    ],
)
def test_along_axes_their_number_has_to_be_known(tf, clip):
    function = tf.function(clip, input_signature=[tf.TensorSpec(None)], autograph=False)
    with pytest.raises(ValueError, match="must hold arrays whose axes are known"):
        function(tf.constant([1.0]))


def test_a_bound_for_each_element_of_an_unknown_shape(tf):
    low = tf.constant([0.0, 3.5])
    for shape in ([None, 2], [None, None], None):
        function = tf.function(
            lambda x: agclip.clip_by_value(x, low, None),
            input_signature=[tf.TensorSpec(shape)],
            autograph=False,
        )
        assert function(tf.constant([[-1.0, 3.0]])).numpy().tolist() == [[0.0, 3.5]]


# --- functions ---------------------------------------------------------------------------------


def marked(objects):
    return [x for x in objects if hasattr(x, _as_written.MARK)]


def test_autograph_looks_for_the_mark(tf):
    from tensorflow.python.autograph.impl import api

    assert api.is_autograph_artifact(agclip.clip_by_norm)
    assert not api.is_autograph_artifact(both)


def test_autograph_rewrites_nothing_of_agclip(tf, monkeypatch):
    from tensorflow.python.autograph.impl import api

    seen, convert = [], api._convert_actual

    def noting(entity, context):
        seen.append(entity.__module__)
        return convert(entity, context)

    monkeypatch.setattr(api, "_convert_actual", noting)
    rule, memory = agclip.ClipByNorm(2.0), agclip.ZClip()
    clipper = agclip.Clipper(agclip.ClipByValue(-1.0, 1.0))
    state = memory.init([tf.zeros([2])])

    @tf.function
    def step(grads, state):
        grads, norm = agclip.clip_by_global_norm(grads, 2.5)
        grads, _, info = rule.update(grads, ())
        grads, state, info = memory.update(grads, state)
        return clipper(grads)[0], state, info, norm

    step([tf.constant([3.0, 4.0])], state)
    assert [name for name in seen if name.partition(".")[0] == "agclip"] == []
    assert seen  # the test's own function is rewritten


def test_every_public_function_and_method_is_marked():
    objects = [getattr(agclip, name) for name in agclip.__all__]
    functions = [x for x in objects if callable(x) and not isinstance(x, type)]
    assert marked(functions) == functions
    rules = [
        x for x in objects if isinstance(x, type) and hasattr(x, "update") and x is not agclip.Rule
    ]
    assert len(rules) > 10
    assert marked([rule.update for rule in rules]) == [rule.update for rule in rules]


def test_one_trace_serves_all_steps(tf):
    traces = []

    @tf.function(autograph=False)
    def clip(grads, bound):
        traces.append(None)
        return agclip.clip_by_global_norm(grads, bound)

    for bound in (1.0, 2.0, 3.0):
        clipped, norm = clip([tf.constant([3.0, 4.0])], tf.constant(bound))
        assert np.allclose(clipped[0], [0.6 * bound, 0.8 * bound])
        assert norm.numpy() == 5
    assert len(traces) == 1


def test_an_eager_tensor_inside_of_a_function_is_traced(tf):
    x = tf.constant([3.0, 4.0])
    assert tf.function(lambda: both(x), autograph=False)().numpy().tolist() == [1.5, 2.0]


@pytest.mark.parametrize("shape", [(1 << 15,), (300, 301), (100_003,)])
def test_large_leaves_have_the_norm_of_numpy(tf, called, shape):
    values = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    leaves = [tf.constant(values), tf.constant(values * 2)]
    clipped, norm = called(lambda x: agclip.clip_by_global_norm(x, 1.0), leaves)
    wanted, reference = agclip.clip_by_global_norm([values, values * 2], 1.0)
    assert norm.numpy() == reference
    for got, one in zip(clipped, wanted, strict=True):
        assert np.allclose(got.numpy(), one, 2e-7, 0)


def test_many_small_leaves_of_several_kinds(tf, called):
    rng = np.random.default_rng(5)
    kinds = ["float32", "float64", "float16", "complex64"]
    values = [rng.standard_normal((3, 1 + i % 2)).astype(kinds[i % 4]) for i in range(24)]
    clipped, norm = called(
        lambda x: agclip.clip_by_global_norm(x, 1.0), [tf.constant(v) for v in values]
    )
    wanted, reference = agclip.clip_by_global_norm(values, 1.0)
    assert np.allclose(norm, reference, 1e-15, 0)
    for got, one in zip(clipped, wanted, strict=True):
        assert got.numpy().dtype == one.dtype
        assert np.allclose(got, one, 1e-3 if one.dtype == np.float16 else 3e-7, 0)


@pytest.mark.parametrize("order", [1, 2, math.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_reproducible_norm_has_the_bits_of_numpy(tf, called, order, dtype):
    values = np.random.default_rng(9).standard_normal(5000).astype(dtype)

    def norm(x):
        return agclip.global_norm([x], order, reproducible=True)

    assert called(norm, tf.constant(values)).numpy() == norm(values)


# --- training ----------------------------------------------------------------------------------

RULES = [
    agclip.ClipByGlobalNorm(0.1),
    agclip.ClipByValue(-0.01, 0.01),
    agclip.AdaptiveGradClip(0.01, unit_axes="in_out"),
    agclip.ZClip(),
    agclip.AdaGC(warmup=1),
    agclip.AutoClip(50.0, window=4),
    agclip.QuantileClip(1.0),
    agclip.SpikeClip(),
    agclip.Chain(agclip.ClipByValue(-1.0, 1.0), agclip.ClipByGlobalNorm(0.1)),
]


@pytest.mark.parametrize(
    ("rule", "jit_compile"),
    thinned(
        itertools.product(RULES, (False, True)),
        lambda cell: not cell[1] or isinstance(cell[0], agclip.ZClip),
        ids=lambda cell: f"{type(cell[0]).__name__}-{'XLA' if cell[1] else 'function'}",
        tuples=True,
    ),
)
def test_a_rule_in_a_training_step(tf, rule, jit_compile):
    grads = [
        {"w": np.float32([[3.0, -4.0], [0.5, 1.0]]) * k, "b": np.float32([0.1])}
        for k in (1, 3, 9, 2)
    ]
    params = {"w": np.ones((2, 2), np.float32), "b": np.ones(1, np.float32)}

    @tf.function(autograph=False, jit_compile=jit_compile)
    def step(grads, state, params):
        return rule.update(grads, state, params)

    there, here = rule.init(tf.nest.map_structure(tf.constant, params)), rule.init(params)
    for one in grads:
        mine, there, info = step(
            tf.nest.map_structure(tf.constant, one),
            there,
            tf.nest.map_structure(tf.constant, params),
        )
        wanted, here, reference = rule.update(one, here, params)
        for key, value in wanted.items():
            assert np.allclose(mine[key], value, 1e-6, 1e-9)
        assert np.allclose(info.norm, reference.norm, 1e-6)
        assert bool(info.clipped) == bool(reference.clipped)


def test_a_state_in_variables(tf):
    rule = agclip.ZClip(warmup=1)
    state = tf.nest.map_structure(tf.Variable, rule.init([tf.zeros([2])]))

    @tf.function(autograph=False)
    def step(grads):
        clipped, new, _ = rule.update(grads, state)
        tf.nest.map_structure(lambda variable, value: variable.assign(value), state, new)
        return clipped

    plain = rule.init([np.zeros(2, np.float32)])
    for k in (1.0, 1.1, 50.0):
        got = step([tf.constant([3.0 * k, 4.0 * k])])
        wanted, plain, _ = rule.update([np.float32([3.0 * k, 4.0 * k])], plain)
        assert np.allclose(got[0], wanted[0], 1e-6)


def test_a_clipper_goes_on_in_another_library(tf):
    here, there = (agclip.Clipper(agclip.ZClip(warmup=1)) for _ in range(2))
    for k in (1.0, 1.2):
        here([tf.constant([3.0 * k])])
    there.load_state_dict(here.state_dict())
    assert np.allclose(there([np.float32([99.0])])[0][0], here([tf.constant([99.0])])[0][0], 1e-6)


def test_keras_trains_with_gradients_that_are_clipped(tf, keras):
    model = keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)])
    model.build((None, 3))
    optimizer = keras.optimizers.SGD(0.1)
    x, y = tf.ones([8, 3]), tf.ones([8, 1]) * 3.0

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        grads = tape.gradient(loss, model.trainable_variables)
        grads, _ = agclip.clip_by_global_norm(grads, 1.0)
        optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
        return loss, agclip.global_norm(grads)

    losses = []
    for _ in range(5):
        loss, norm = step()
        losses.append(float(loss))
        assert norm <= 1.0 + 1e-6
    assert losses[-1] < losses[0]


# --- host memory -------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["array calls", "compiled kernels"])
def _kernels(request, _without_compiled_kernels):
    if request.param:
        pytest.importorskip("numba", reason="Numba is not installed")
        loader.load()


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (1200, 1000)], ids=str)
def test_eager_tensors_get_the_bits_of_numpy(tf, dtype, shape):
    values = np.random.default_rng(1).standard_normal(shape)
    x = tf.cast(tf.constant(values), dtype)
    plain = np.array(x.numpy(), ndmin=0)
    for clip in (
        lambda t: agclip.clip_by_norm(t, 0.25),
        lambda t: agclip.clip_by_global_norm([t], 0.25)[0][0],
        lambda t: agclip.clip_by_norm(t, 0.25, ord=1),
        lambda t: t if dtype == "complex64" else agclip.clip_by_value(t, -0.25, 0.25),
    ):
        got, wanted = clip(x), clip(plain)
        assert got.dtype == x.dtype
        assert got.shape == x.shape
        assert np.asarray(got.numpy()).tobytes() == np.asarray(wanted).tobytes()


@pytest.mark.usefixtures("_kernels")
def test_results_lie_where_tensorflow_wants_memory(tf):
    leaves = [tf.random.normal([n]) for n in (1, 3, 1000, 1_200_000)]
    clipped, _ = agclip.clip_by_global_norm(leaves, 0.5)
    for one in clipped:
        assert np.asarray(one).__array_interface__["data"][0] % 64 == 0
        assert np.allclose(one + one, 2 * one.numpy())


def test_tensors_go_over_to_other_libraries_and_come_back(tf):
    with agclip.config_context(backend="numpy", on_foreign="convert"):
        for dtype in ("float32", "bfloat16", "complex64"):
            x = tf.cast(tf.constant([3.0, 4.0]), dtype)
            got = agclip.clip_by_norm(x, 2.5)
            assert got.dtype == x.dtype
            assert np.allclose(tf.cast(got, tf.complex64), [1.5, 2.0])


def test_arrays_of_other_libraries_are_clipped_as_tensors(tf):
    memory = np.zeros(9, np.float32)[1:3]
    memory[...] = [3.0, 4.0]
    with agclip.config_context(backend="tensorflow", on_foreign="convert"):
        got = agclip.clip_by_norm(memory, 2.5)
        assert isinstance(got, np.ndarray)
        assert got.tolist() == [1.5, 2.0]
        agclip.clip_by_norm_(memory, 2.5)
        assert memory.tolist() == [1.5, 2.0]
        assert agclip.clip_by_norm([3.0, 4.0], 2.5).numpy().tolist() == [1.5, 2.0]


def test_an_array_that_is_taken_over_is_not_written_to(tf):
    xp = agclip.get_backend("tensorflow").xp
    values = np.float32([1.0, 2.0])
    taken = xp.asarray(values, copy=True)
    values[0] = 7.0
    assert taken.numpy().tolist() == [1.0, 2.0]


def test_the_device_may_be_named(tf):
    with agclip.config_context(backend="tensorflow", device="cpu:0"):
        assert "CPU:0" in agclip.asarray([1.0, 2.0]).device
    with (
        agclip.config_context(backend="tensorflow", device="gpu:7"),
        pytest.raises((RuntimeError, ValueError), match="gpu:7"),
    ):
        agclip.asarray([1.0])
