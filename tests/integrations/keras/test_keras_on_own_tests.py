"""Keras's own tests of its clipping, with agclip's rules in the places of its arguments."""

import types
import unittest

import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

import agclip  # noqa: E402
from agclip.integrations.keras import with_clipping  # noqa: E402
from thinned import thinned  # noqa: E402

RULES = {
    "clipnorm": agclip.ClipByNorm,
    "global_clipnorm": agclip.ClipByGlobalNorm,
    "clipvalue": lambda bound: agclip.ClipByValue(-bound, bound),
}


def clipping(family):
    """Return what makes an optimizer of a family, with a rule for the argument that clips."""

    def make(**arguments):
        (name,) = RULES.keys() & arguments
        rule = RULES[name](arguments.pop(name))
        optimizer = with_clipping(family(**arguments), rule)
        clip = optimizer._clip_gradients

        def clip_gradients(grads):
            if not optimizer.built:  # Keras's own tests clip with one that has no variables
                grads = [keras.ops.convert_to_tensor(grad, "float32") for grad in grads]
                optimizer.build([keras.Variable(keras.ops.zeros_like(grad)) for grad in grads])
            return clip(grads)

        optimizer._clip_gradients = clip_gradients
        return optimizer

    return make


@pytest.fixture
def load(request):
    """Import a module of Keras's tests of its optimizers."""
    request.config.addinivalue_line("markers", "requires_trainable_backend: Keras's own")
    return lambda name: pytest.importorskip(
        f"keras.src.optimizers.{name}_test", reason="this Keras ships no tests of its optimizers"
    )


@pytest.fixture
def tests(load):
    return load("optimizer")


@pytest.mark.parametrize("name", ["test_clip_norm", "test_clip_value", "test_global_clip_norm"])
def test_a_clip_of_keras_is_one_of_a_rule(monkeypatch, tests, name):
    monkeypatch.setattr(
        tests, "optimizers", types.SimpleNamespace(SGD=clipping(keras.optimizers.SGD))
    )
    outcome = unittest.TestResult()
    tests.OptimizerTest(name).run(outcome)
    assert outcome.testsRun == 1
    assert outcome.wasSuccessful(), outcome.failures + outcome.errors
    assert not outcome.skipped


FAMILIES = (
    *("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion"),
    *("Muon", "Nadam", "RMSprop", "SGD", "ScheduleFreeAdamW"),
)
"""Optimizers of Keras, each of which has tests of its clipping."""


@pytest.mark.parametrize("family", thinned(FAMILIES, ("Adam",), ids=str))
def test_clips_of_each_optimizer_are_those_of_rules(monkeypatch, load, family):
    cls = getattr(keras.optimizers, family, None)
    if cls is None:
        pytest.skip(f"Keras {keras.__version__} has no {family}")
    module = load(cls.__module__.rpartition(".")[2])
    monkeypatch.setattr(module, family, clipping(cls))
    (case,) = [x for name, x in vars(module).items() if name.startswith(f"{family}Test")]
    names = [name for name in dir(case) if "clip" in name and name.startswith("test")]
    outcome = unittest.TestSuite(map(case, names)).run(unittest.TestResult())
    assert outcome.testsRun >= 2
    assert outcome.wasSuccessful(), outcome.failures + outcome.errors
    assert not outcome.skipped


def test_the_arguments_of_keras_are_its_own(tests):
    outcome = unittest.TestResult()
    tests.OptimizerTest("test_clip_args").run(outcome)
    assert outcome.wasSuccessful(), outcome.failures + outcome.errors
