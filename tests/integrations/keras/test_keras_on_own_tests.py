"""Keras's own tests of its clipping, with agclip's rules in the places of its arguments."""

import types
import unittest

import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

import agclip  # noqa: E402
from agclip.integrations.keras import with_clipping  # noqa: E402

RULES = {
    "clipnorm": agclip.ClipByNorm,
    "global_clipnorm": agclip.ClipByGlobalNorm,
    "clipvalue": lambda bound: agclip.ClipByValue(-bound, bound),
}


class OwnVariables:
    """An optimizer of Keras, built when gradients are clipped, as its own tests do not."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def _clip_gradients(self, grads):
        self.optimizer.build([keras.Variable(keras.ops.zeros_like(grad)) for grad in grads])
        return self.optimizer._clip_gradients(grads)


def sgd(**arguments):
    (name,) = RULES.keys() & arguments
    rule = RULES[name](arguments.pop(name))
    return OwnVariables(with_clipping(keras.optimizers.SGD(**arguments), rule))


@pytest.fixture
def tests(request):
    """The module of Keras's tests of its optimizers."""
    request.config.addinivalue_line("markers", "requires_trainable_backend: Keras's own")
    return pytest.importorskip(
        "keras.src.optimizers.optimizer_test", reason="this Keras ships no tests of its optimizers"
    )


@pytest.mark.parametrize("name", ["test_clip_norm", "test_clip_value", "test_global_clip_norm"])
def test_a_clip_of_keras_is_one_of_a_rule(monkeypatch, tests, name):
    monkeypatch.setattr(tests, "optimizers", types.SimpleNamespace(SGD=sgd))
    outcome = unittest.TestResult()
    tests.OptimizerTest(name).run(outcome)
    assert outcome.testsRun == 1
    assert outcome.wasSuccessful(), outcome.failures + outcome.errors
    assert not outcome.skipped


def test_the_arguments_of_keras_are_its_own(tests):
    outcome = unittest.TestResult()
    tests.OptimizerTest("test_clip_args").run(outcome)
    assert outcome.wasSuccessful(), outcome.failures + outcome.errors
