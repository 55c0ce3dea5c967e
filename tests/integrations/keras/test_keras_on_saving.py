"""Saving and loading of optimizers that clip, on every backend of Keras."""

import json
import math
import pickle

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

from keras import ops  # noqa: E402
from keras_cases import (  # noqa: E402
    GRAD,
    fit,
    net,
    numbers,
    remembered,
    sgd,
    step,
    variable,
    weights,
    whole,
    whole_elsewhere,
)

import agclip  # noqa: E402
from agclip.integrations.keras import (  # noqa: E402
    ClippedOptimizer,
    _config,
    with_clipping,
)


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


@keras.saving.register_keras_serializable("tests")
def schedule(step):
    return 2.0 / (1.0 + step)


@keras.saving.register_keras_serializable("tests")
def unit_axes(path, leaf):
    return (0,)


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
