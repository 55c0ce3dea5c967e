"""`fit` with an optimizer that clips, on every backend of Keras, and what one of them alone has."""

import functools
import math

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

from keras import ops  # noqa: E402
from keras_cases import (  # noqa: E402
    BACKEND,
    GRAD,
    fit,
    mean_of,
    net,
    numbers,
    remembered,
    rows,
    sgd,
    step,
    variable,
    weights,
    whole,
    whole_elsewhere,
)

import agclip  # noqa: E402
from agclip.integrations.keras import ClipLogger, _clipping  # noqa: E402


@pytest.fixture(
    params=[
        pytest.param("auto", id="as Keras chooses"),
        pytest.param(False, id="as written", marks=whole),
        pytest.param(True, id="compiled", marks=whole),
    ]
)
def jit(request, monkeypatch):
    if BACKEND == "torch" and request.param is True:
        import torch

        # Dynamo follows the whole step; what Inductor makes of it takes minutes.
        compiled = functools.partial(torch.compile, backend="eager")
        monkeypatch.setattr(torch, "compile", compiled)
    return request.param


def test_fit_clips_by_a_memory_that_goes_on(jit, monkeypatch):
    calls = []
    monkeypatch.setattr(_clipping, "_require_whole", lambda: calls.append(1))
    rule = agclip.ZClip(warmup=2, max_norm=None)
    factors = (1.0, 1.2, 100.0, 0.5)
    model = net(sgd(rule), jit_compile=jit)
    fit(model, *factors)
    clipper, expected = agclip.Clipper(rule), np.zeros(2)
    for row in rows(*factors):
        expected -= clipper([row])[0][0]
    np.testing.assert_allclose(weights(model), expected, rtol=1e-5)
    assert np.linalg.norm(weights(model)) < 50
    assert numbers(model.optimizer)[0] == pytest.approx(2.5)
    traced = BACKEND == "tensorflow" or (BACKEND == "jax" and jit)
    assert BACKEND == "torch" or len(calls) <= (2 if traced else 4)


@whole_elsewhere
def test_accumulated_gradients_are_clipped_and_not_those_of_a_batch(jit):
    rule = agclip.ZClip(warmup=3, max_norm=1.0)
    model = net(sgd(rule, gradient_accumulation_steps=2), jit_compile=jit)
    fit(model, 1.0, 3.0)
    np.testing.assert_allclose(weights(model), [-0.6, -0.8], rtol=1e-6)
    optimizer = model.optimizer
    assert numbers(optimizer)[0] == pytest.approx(10.0)
    assert [int(v) for n, v in remembered(optimizer).items() if n.endswith("count")] == [1]
    fit(model, 50.0)
    np.testing.assert_allclose(weights(model), [-0.6, -0.8], rtol=1e-6)
    assert numbers(optimizer)[0] == pytest.approx(10.0)


@whole
def test_a_loss_scale_is_out_before_the_clip_and_skipped_steps_enter_no_statistic():
    inner = sgd(agclip.ZClip(warmup=3, max_norm=1.0))
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    model = net(scaled)
    fit(model, 1.0, math.inf, 1.0)
    np.testing.assert_allclose(weights(model), [-1.2, -1.6], rtol=1e-6)
    assert numbers(inner)[0] == pytest.approx(5.0)
    assert [int(v) for n, v in remembered(inner).items() if n.endswith("count")] == [2]
    assert float(scaled.dynamic_scale) == 4.0


@whole
def test_mixed_precision_wraps_it():
    policy = keras.dtype_policies.DTypePolicy("mixed_float16")
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=policy)
    model = keras.Sequential([keras.layers.Input((2,)), dense])
    inner = sgd(agclip.ClipByGlobalNorm(1.0))
    model.compile(keras.optimizers.LossScaleOptimizer(inner), loss=mean_of)
    fit(model, 0.01, 0.1)
    np.testing.assert_allclose(weights(model), [-0.33, -0.44], rtol=1e-2)


@whole_elsewhere
def test_the_rows_of_an_embedding_are_clipped():
    layer = keras.layers.Embedding(4, 2, embeddings_initializer="zeros")
    model = keras.Sequential([keras.layers.Input((3,), dtype="int32"), layer])
    model.compile(sgd(agclip.ClipByGlobalNorm(1.0)), loss=lambda _, y: ops.sum(y, axis=(1, 2)))
    model.fit(np.asarray([[1, 1, 2]]), np.zeros((1, 1)), verbose=0)
    # A row that occurs twice has a gradient twice as large.
    assert numbers(model.optimizer)[0] == pytest.approx(math.sqrt(10))
    expected = np.asarray([[0, 0], [2, 2], [1, 1], [0, 0]]) / -math.sqrt(10)
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-6)


ROWS = {
    "norm": (agclip.ClipByNorm(1.0), math.sqrt(10)),
    "value": (agclip.ClipByValue(-1.0, 1.0), math.sqrt(10)),
    "average": (agclip.ClipByAverageNorm(0.125), math.sqrt(10)),
    "zclip": (agclip.ZClip(warmup=1), math.sqrt(10)),
    "adagc": (agclip.AdaGC(warmup=1), math.sqrt(10)),
    "chain": (
        agclip.Chain(agclip.ClipByValue(-1.0, 1.0), agclip.ClipByGlobalNorm(1.0)),
        math.sqrt(10),
    ),
    "group": (
        agclip.PerGroup({"*table/*": agclip.ClipByNorm(1.0), "*": agclip.SpikeClip()}),
        math.sqrt(10),
    ),
}


def table(rule, rows=4, **options):
    """Return a model that looks rows of a table up, of which 1 occurs twice and 2 once."""
    layer = keras.layers.Embedding(rows, 2, embeddings_initializer="zeros", name="table")
    model = keras.Sequential([keras.layers.Input((3,), dtype="int32"), layer])
    model.compile(sgd(rule, leaf_norms=True), loss=lambda _, y: ops.sum(y), **options)
    model.fit(np.asarray([[1, 1, 2]]), np.zeros((1, 1)), verbose=0)
    return model


@whole
@pytest.mark.parametrize("name", ROWS)
def test_rules_of_norms_take_the_rows_of_an_embedding(name, jit):
    if BACKEND == "torch" and jit is True:
        pytest.skip("the rows are dense with PyTorch, and a compiled step takes a minute")
    rule, norm = ROWS[name]
    model = table(rule, jit_compile=jit)
    assert [*model.optimizer.clipping.last.to_host().leaf_norms.values()] == pytest.approx([norm])
    assert np.linalg.norm(model.get_weights()[0]) < norm


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow alone has slices of rows")
def test_slices_of_tensorflow_stay_slices():
    import tensorflow as tf

    seen = []

    class Spy(agclip.ClipByGlobalNorm):
        def update(self, grads, state, params=None):
            step = super().update(grads, state, params)
            seen.extend(type(x) for tree in (grads, step[0]) for x in tree.values())
            return step

    table(Spy(1.0))
    assert set(seen) == {tf.IndexedSlices}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow alone has slices of rows")
@pytest.mark.parametrize(
    "rule",
    [
        agclip.SpikeClip(),
        pytest.param(agclip.ClipByNorm(1.0, axes=(1,)), marks=whole),
        pytest.param(agclip.AdaptiveGradClip(0.1, unit_axes="in_out"), marks=whole),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_rules_of_elements_and_units_refuse_slices(rule):
    with pytest.raises(TypeError, match=r"a sparse one \(IndexedSlices\) at grads\['.*table"):
        table(rule)


@whole
def test_a_logger_adds_to_what_keras_logs():
    model = net(sgd(agclip.ClipByGlobalNorm(10.0)))
    history = fit(model, 1.0, 3.0, epochs=2, callbacks=[ClipLogger()])
    assert history["grad_norm"] == pytest.approx([10.0, 10.0])
    assert history["clip_rate"] == [0.5, 0.5]


@whole
def test_a_logger_leaves_out_batches_that_are_no_steps():
    model = net(sgd(agclip.ClipByGlobalNorm(7.0), gradient_accumulation_steps=2))
    history = fit(model, 1.0, 1.0, 3.0, 3.0, callbacks=[ClipLogger()])
    assert history["grad_norm"] == pytest.approx([10.0])
    assert history["clip_rate"] == [0.5]


# --- one backend -------------------------------------------------------------------------------


@pytest.mark.skipif(BACKEND != "jax", reason="TensorFlow and PyTorch have no stateless optimizers")
def test_a_stateless_step_of_jax_is_that_of_an_optimizer():
    import jax

    w, optimizer = variable(), sgd(agclip.ZClip(warmup=1, max_norm=None), leaf_norms=True)
    optimizer.build([w])
    values = [v.value for v in optimizer.variables]
    trained, stateless = [w.value], jax.jit(optimizer.stateless_apply, donate_argnums=0)
    other, plain = variable(), sgd(agclip.ZClip(warmup=1, max_norm=None), leaf_norms=True)
    for factor in (1.0, 1.1, 9.0):
        trained, values = stateless(values, [ops.array(factor * GRAD)], trained)
        step(plain, (factor * GRAD, other))
    np.testing.assert_allclose(trained[0], other.numpy(), rtol=1e-6)
    for one, two in zip(values, plain.variables, strict=True):
        np.testing.assert_allclose(one, two.numpy(), rtol=1e-6)
    assert stateless._cache_size() == 1


@whole
@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone donates arrays")
def test_an_eager_step_leaves_arrays_that_can_be_donated():
    model = net(sgd(agclip.AutoClip(window=4), leaf_norms=True))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.apply([ops.reshape(ops.array(GRAD), (2, 1))])
    fit(model, 1.0)
    assert float(model.optimizer.clipping.last.norm) == 5.0


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow alone has replicas")
def test_replicas_of_tensorflow_are_refused():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = net(sgd(agclip.ClipByGlobalNorm(1.0)))
    with pytest.raises(NotImplementedError, match="one of 2 replicas"):
        model.fit(rows(1.0, 1.0), np.zeros((2, 1)), batch_size=2, verbose=0)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow alone has variables of its own")
def test_variables_of_tensorflow_itself_are_trained():
    import tensorflow as tf

    w, optimizer = tf.Variable([0.0, 0.0], name="w"), sgd(agclip.ZClip(warmup=2, max_norm=1.0))

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(w * GRAD)
        optimizer.apply_gradients([(tape.gradient(loss, w), w)])

    train()  # builds the optimizer while it is traced
    train()
    np.testing.assert_allclose(w.numpy(), [-1.2, -1.6], rtol=1e-6)
    assert [int(v) for n, v in remembered(optimizer).items() if n.endswith("count")] == [2]
