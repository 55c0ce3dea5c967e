"""A step of an optimizer that clips, on every backend of Keras."""

import doctest
import math
import warnings

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

from keras import ops  # noqa: E402
from keras_cases import (  # noqa: E402
    GRAD,
    numbers,
    remembered,
    sgd,
    step,
    variable,
    whole_elsewhere,
)

import agclip  # noqa: E402
from agclip.integrations.keras import with_clipping  # noqa: E402


@whole_elsewhere
def test_the_example_gives_what_it_says():
    names = {}
    (found,) = doctest.DocTestFinder().find(with_clipping, "with_clipping", False, names, names)
    assert doctest.DocTestRunner().run(found) == (0, len(found.examples))
    assert len(found.examples) > 5


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


@whole_elsewhere
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


@whole_elsewhere
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


@whole_elsewhere
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


@whole_elsewhere
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


@whole_elsewhere
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
