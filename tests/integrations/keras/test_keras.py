"""What holds on every backend of Keras.

A process has one: here it is the one that Keras is told, and `test_keras_backends.py` runs this
file in a process for each of the others.
"""

import doctest
import functools
import json
import math
import pickle
import warnings

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

from keras import ops  # noqa: E402

import agclip  # noqa: E402
from agclip.integrations.keras import (  # noqa: E402
    ClipLogger,
    ClippedOptimizer,
    _clipping,
    _config,
    with_clipping,
)

BACKEND = keras.backend.backend()
if BACKEND not in ("tensorflow", "jax", "torch"):
    pytest.skip(f"no optimizer of Keras trains on {BACKEND}", allow_module_level=True)

whole = pytest.mark.whole
# What Keras saves with takes seconds to import, and an eager step of JAX to compile.
whole_elsewhere = whole if BACKEND != "tensorflow" else pytest.mark.filterwarnings()
GRAD = np.asarray([3.0, 4.0], "float32")


@keras.saving.register_keras_serializable("tests")
def schedule(step):
    return 2.0 / (1.0 + step)


@keras.saving.register_keras_serializable("tests")
def unit_axes(path, leaf):
    return (0,)


@keras.saving.register_keras_serializable("tests")
def mean_of(_, y):
    return ops.mean(y)


def sgd(rule, rate=1.0, **options):
    leaf_norms = options.pop("leaf_norms", False)
    return with_clipping(keras.optimizers.SGD(rate, **options), rule, leaf_norms=leaf_norms)


def variable(values=(0.0, 0.0), **options):
    return keras.Variable(np.asarray(values, "float32"), **options)


def step(optimizer, *pairs):
    optimizer.apply_gradients([(None if g is None else ops.array(g), v) for g, v in pairs])


def net(optimizer, **options):
    """Return a model whose gradient is the mean of the rows of a batch."""
    inner = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="dense")
    model = keras.Sequential([keras.layers.Input((2,)), inner], name="net")
    model.compile(optimizer, loss=mean_of, **options)
    return model


def rows(*factors):
    return np.asarray([GRAD * factor for factor in factors], "float32")


def fit(model, *factors, **options):
    x = rows(*factors)
    return model.fit(
        x, np.zeros((len(x), 1)), batch_size=1, shuffle=False, verbose=0, **options
    ).history


def weights(model):
    return np.asarray(model.get_weights()[0]).reshape(-1)


def numbers(optimizer):
    info = optimizer.clipping.last.to_host()
    return info.norm, info.scale, info.threshold


def remembered(optimizer):
    """Return the variables of a rule's memory."""
    return {v.name: v.numpy() for v in optimizer.variables if v.name.startswith("clipping_memory")}


def test_the_example_gives_what_it_says():
    names = {}
    (found,) = doctest.DocTestFinder().find(with_clipping, "with_clipping", False, names, names)
    assert doctest.DocTestRunner().run(found) == (0, len(found.examples))
    assert len(found.examples) > 5


# --- a step ------------------------------------------------------------------------------------


def test_a_step_is_clipped_and_recorded():
    w, optimizer = variable(), sgd(agclip.ClipByGlobalNorm(1.0), leaf_norms=True)
    assert optimizer.clipping.last is None
    optimizer.build([w])
    assert numbers(optimizer) == (0.0, 1.0, math.inf)
    step(optimizer, (GRAD, w))
    np.testing.assert_allclose(w.numpy(), [-0.6, -0.8], rtol=1e-6)
    assert numbers(optimizer) == pytest.approx((5.0, 0.2, 1.0))
    info = optimizer.clipping.last.to_host()
    assert (info.clipped, info.nonfinite, info.skip) == (True, False, False)
    assert list(info.leaf_norms.values()) == [5.0]


def test_a_record_stays_as_it_was():
    w, optimizer = variable(), sgd(agclip.ClipByGlobalNorm(1.0))
    step(optimizer, (GRAD, w))
    first = optimizer.clipping.last
    step(optimizer, (2 * GRAD, w))
    assert (float(first.norm), float(optimizer.clipping.last.norm)) == (5.0, 10.0)


def test_leaves_are_known_by_the_paths_of_variables():
    kernel, bias = variable(name="kernel"), variable(name="bias")
    rule = agclip.PerGroup({"*bias": None, "*": agclip.ClipByNorm(1.0)})
    optimizer = sgd(rule, leaf_norms=True)
    step(optimizer, (GRAD, kernel), (GRAD, bias))
    np.testing.assert_allclose(kernel.numpy(), [-0.6, -0.8], rtol=1e-6)
    assert bias.numpy().tolist() == [-3.0, -4.0]
    norms = optimizer.clipping.last.to_host().leaf_norms
    assert norms == {"kernel": 5.0, "bias": pytest.approx(math.nan, nan_ok=True)}


@whole_elsewhere
def test_variables_of_one_path_are_told_apart():
    one, two = variable(name="same"), variable(name="same")
    optimizer = sgd(agclip.ClipByNorm(1.0), leaf_norms=True)
    step(optimizer, (GRAD, one), (0.1 * GRAD, two))
    np.testing.assert_allclose(one.numpy(), [-0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(two.numpy(), [-0.3, -0.4], rtol=1e-6)
    assert list(optimizer.clipping.last.to_host().leaf_norms) == ["same", "same:1"]


def test_a_variable_without_a_gradient_keeps_its_statistics():
    one, two = variable(name="one"), variable(name="two")
    rule = agclip.PerGroup({"one": agclip.ZClip(warmup=1), "two": agclip.ZClip(warmup=1)})
    optimizer = sgd(rule, leaf_norms=True)
    optimizer.build([one, two])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gradients do not exist")
        step(optimizer, (None, one), (GRAD, two))
    found = remembered(optimizer)
    assert {n: int(v) for n, v in found.items() if n.endswith("count")} == {
        "clipping_memory_one_count": 0,
        "clipping_memory_two_count": 1,
    }
    assert math.isnan(optimizer.clipping.last.to_host().leaf_norms["one"])
    assert one.numpy().tolist() == [0.0, 0.0]


@whole_elsewhere
def test_rules_see_the_parameters():
    w = variable((6.0, 8.0))
    optimizer = sgd(agclip.AdaptiveGradClip(0.1, unit_axes=(0,)))
    step(optimizer, (GRAD, w))
    np.testing.assert_allclose(w.numpy(), [5.4, 7.2], rtol=1e-6)


def test_an_optimizer_that_has_taken_steps_can_clip():
    w, optimizer = variable(), keras.optimizers.Adam(1.0)
    step(optimizer, (GRAD, w))
    count = len(optimizer.variables)
    assert with_clipping(optimizer, agclip.ZClip(warmup=1)) is optimizer
    assert len(optimizer.variables) > count
    step(optimizer, (GRAD, w))
    assert float(optimizer.clipping.last.norm) == 5.0
    assert int(optimizer.iterations) == 2


@whole_elsewhere
def test_half_precision_variables_have_the_norm_of_float32():
    w = keras.Variable(np.zeros(2), dtype="float16")
    optimizer = sgd(agclip.ClipByGlobalNorm(1.0))
    optimizer.apply_gradients([(ops.cast(ops.array([3e4, 4e4]), "float16"), w)])
    assert float(optimizer.clipping.last.norm) == pytest.approx(5e4, rel=1e-3)
    np.testing.assert_allclose(w.numpy(), [-0.6, -0.8], rtol=1e-3)


def test_what_is_not_finite_is_what_the_policy_says():
    w, optimizer = variable(), sgd(agclip.ClipByGlobalNorm(1.0, nonfinite="zero"))
    step(optimizer, ((math.nan, 1.0), w))
    assert w.numpy().tolist() == [0.0, 0.0]
    info = optimizer.clipping.last.to_host()
    assert (info.nonfinite, info.skip) == (True, False)


FAMILIES = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.1),
    "decay": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
    "average": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    ),
    "scaled": lambda: keras.optimizers.Lion(0.1, loss_scale_factor=2.0),
}


@whole_elsewhere
@pytest.mark.parametrize("family", FAMILIES)
def test_the_optimizer_does_what_it_does_with_gradients_that_are_clipped(family):
    plain, optimizer = FAMILIES[family](), with_clipping(FAMILIES[family](), agclip.ClipByNorm(1.0))
    scale = plain.loss_scale_factor or 1.0
    one, two = variable((1.0, 2.0)), variable((1.0, 2.0))
    for factor in (1.0, 0.1, 3.0):
        g = factor * GRAD
        step(plain, (scale * np.asarray(agclip.clip_by_norm(g, 1.0)), one))
        step(optimizer, (scale * g, two))
    np.testing.assert_allclose(two.numpy(), one.numpy(), rtol=1e-6)
    assert isinstance(optimizer, type(plain))
    assert optimizer.name.split("_")[0] == plain.name.split("_")[0]


def test_the_learning_rate_can_be_set():
    w, optimizer = variable(), sgd(agclip.ClipByGlobalNorm(1.0))
    optimizer.learning_rate = 0.5
    step(optimizer, (GRAD, w))
    np.testing.assert_allclose(w.numpy(), [-0.3, -0.4], rtol=1e-6)


def test_a_clip_of_keras_that_is_set_later_is_refused():
    w, optimizer = variable(), sgd(agclip.ClipByGlobalNorm(1.0))
    optimizer.clipvalue = 0.5
    with pytest.raises(ValueError, match="`clipvalue` must be None"):
        step(optimizer, (GRAD, w))


class Foreign(keras.optimizers.SGD):
    """An optimizer that takes steps in its own way."""

    def apply(self, grads, trainable_variables=None):
        for g, v in zip(grads, trainable_variables, strict=True):
            v.assign(v - g)


def test_an_optimizer_that_would_not_clip_is_refused():
    w = variable()
    with pytest.raises(RuntimeError, match="`optimizer` must clip in its own step"):
        step(with_clipping(Foreign(), agclip.ClipByGlobalNorm(1.0)), (GRAD, w))


class Growing:
    """A rule of another's making whose state grows."""

    def init(self, params):
        return {"seen": ops.zeros((1,))}

    def update(self, grads, state, params=None):
        clipped, _, info = agclip.ClipByNorm(1.0).update(grads, (), params)
        return clipped, {"seen": ops.concatenate([state["seen"], state["seen"]])}, info


def test_a_state_that_grows_is_refused():
    with pytest.raises(ValueError, match="`rule` must have a state of one form for all steps"):
        step(sgd(Growing()), (GRAD, variable()))


# --- fit ---------------------------------------------------------------------------------------


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


@whole_elsewhere
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


# --- saving ------------------------------------------------------------------------------------


@whole_elsewhere
def test_a_saved_model_goes_on_where_it_was(tmp_path):
    rule = agclip.ZClip(warmup=2, max_norm=None)
    model = net(with_clipping(keras.optimizers.Adam(0.1), rule))
    fit(model, 1.0, 1.2, 1.1)
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert isinstance(loaded.optimizer, ClippedOptimizer)
    assert isinstance(loaded.optimizer, type(keras.optimizers.Adam()))
    assert loaded.optimizer.clipping.rule == model.optimizer.clipping.rule
    one, two = remembered(model.optimizer), remembered(loaded.optimizer)
    assert len(two) > 2
    assert [*map(float, one.values())] == [*map(float, two.values())]
    assert numbers(model.optimizer) == numbers(loaded.optimizer)
    fit(model, 100.0)
    fit(loaded, 100.0)
    np.testing.assert_array_equal(weights(model), weights(loaded))
    assert loaded.optimizer.clipping.last.to_host().clipped


@whole
def test_weights_of_an_optimizer_are_saved(tmp_path):
    rule = agclip.AdaGC(warmup=1)
    model = net(sgd(rule))
    fit(model, 1.0, 1.2)
    model.save_weights(tmp_path / "net.weights.h5")
    other = net(sgd(rule))
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "net.weights.h5")
    one, two = remembered(model.optimizer), remembered(other.optimizer)
    assert [*map(float, one.values())] == [*map(float, two.values())]


@whole_elsewhere
def test_a_copy_clips():
    optimizer = sgd(agclip.ZClip(warmup=1))
    copied = pickle.loads(pickle.dumps(optimizer))
    assert copied.clipping.rule == optimizer.clipping.rule
    w = variable()
    step(copied, (GRAD, w))
    assert float(copied.clipping.last.norm) == 5.0


@whole
def test_an_optimizer_within_a_loss_scale_is_saved(tmp_path):
    inner = sgd(agclip.ZClip(warmup=1))
    model = net(keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0))
    fit(model, 1.0)
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras").optimizer.inner_optimizer
    assert [*map(float, remembered(inner).values())] == [*map(float, remembered(loaded).values())]


RULES = {
    "value": agclip.ClipByValue(-1.0, 2.0),
    "norm": agclip.ClipByNorm(1.0, ord=math.inf, axes=(0,)),
    "average": agclip.ClipByAverageNorm(1.0),
    "rms": agclip.ClipByRMS(1, strict=True),
    "global": agclip.ClipByGlobalNorm(np.float32(0.5), nonfinite="zero", loss_scale=2.0),
    "adaptive": agclip.AdaptiveGradClip(0.1, unit_axes=unit_axes),
    "autoclip": agclip.AutoClip(window=100),
    "zclip": agclip.ZClip(),
    "adagc": agclip.AdaGC(),
    "spike": agclip.SpikeClip(),
    "quantile": agclip.QuantileClip(),
    "scheduled": agclip.Scheduled(agclip.ClipByNorm, schedule, nonfinite="skip"),
    "chain": agclip.Chain(agclip.ClipByValue(-1.0, 1.0), agclip.ZClip()),
    "groups": agclip.PerGroup({"*bias": None, "*": agclip.Chain([agclip.ClipByNorm(1.0)])}),
}


@whole_elsewhere
@pytest.mark.parametrize("name", RULES)
def test_a_rule_survives_its_configuration(name):
    config = json.loads(json.dumps(_config.config_of(RULES[name])))
    assert _config.rule_of(config) == RULES[name]


@whole
@pytest.mark.parametrize("name", RULES)
def test_an_optimizer_survives_its_configuration_and_takes_steps(name):
    optimizer = sgd(RULES[name], leaf_norms=True)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(optimizer)))
    assert config["registered_name"] == "agclip>ClippedOptimizer"
    again = keras.saving.deserialize_keras_object(config)
    ws = [[variable((1.0, 1.0), name=n) for n in ("kernel", "bias")] for _ in range(2)]
    for one, pair in zip((optimizer, again), ws, strict=True):
        for _ in range(2):
            step(one, *((GRAD, w) for w in pair))
    for one, two in zip(*ws, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    assert again.clipping.leaf_norms


@keras.saving.register_keras_serializable("tests")
class Halving:
    """A rule of another's making."""

    def __init__(self, factor):
        self.factor = factor

    def init(self, params):
        return {"steps": ops.zeros(())}

    def update(self, grads, state, params=None):
        clipped, _, info = agclip.ClipByNorm(self.factor).update(grads, (), params)
        return clipped, {"steps": state["steps"] + 1}, info

    def get_config(self):
        return {"factor": self.factor}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@whole
def test_a_rule_of_anothers_making_is_saved_as_keras_saves_objects(tmp_path):
    model = net(sgd(agclip.Chain(Halving(1.0))))
    fit(model, 1.0, 1.0)
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras").optimizer
    assert loaded.clipping.rule.rules[0].factor == 1.0
    assert [*map(float, remembered(loaded).values())] == [2.0]


@whole
def test_a_lambda_is_loaded_out_of_safe_mode_alone(tmp_path):
    model = net(sgd(agclip.Scheduled(agclip.ClipByNorm, lambda step: 1.0 / (1.0 + step))))
    fit(model, 1.0)
    with pytest.warns(UserWarning, match="includes a `lambda`"):
        model.save(tmp_path / "net.keras")
    with pytest.raises(ValueError, match="safe_mode"):
        keras.saving.load_model(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras", safe_mode=False)
    fit(loaded, 1.0)
    np.testing.assert_allclose(weights(loaded), [-0.9, -1.2], rtol=1e-6)


def test_an_optimizer_is_saved_under_the_name_that_every_backend_knows():
    """Keras's own saves the class that stands in for it on the PyTorch backend (3.15)."""
    config = sgd(agclip.ZClip()).get_config()["optimizer"]
    assert (config["module"], config["class_name"]) == ("keras.optimizers", "SGD")


# --- what is private to Keras ------------------------------------------------------------------


def test_keras_clips_in_one_place():
    """`_clip_gradients` is called once a step, within `_backend_apply_gradients`."""
    calls = []

    class Spy(keras.optimizers.SGD):
        def _backend_apply_gradients(self, grads, trainable_variables):
            calls.append([v.path for v in trainable_variables])
            super()._backend_apply_gradients(grads, trainable_variables)
            calls.append("done")

        def _clip_gradients(self, grads):
            calls.append(len(grads))
            return super()._clip_gradients(grads)

    one, two = variable(name="one"), variable(name="two")
    optimizer = Spy(1.0, clipnorm=1.0)
    step(optimizer, (GRAD, one), (GRAD, two))
    assert calls == [["one", "two"], 2, "done"]
    assert optimizer._get_variable_index(two) == 1
    np.testing.assert_allclose(one.numpy(), [-0.6, -0.8], rtol=1e-6)


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
