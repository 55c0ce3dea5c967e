"""Optimizers of Keras for calls in the tables; they are handed its module and agclip's for it."""

from types import SimpleNamespace
from unittest import mock

import agclip


def keras_optimizer(in_keras, keras):
    return in_keras.with_clipping(keras.optimizers.SGD(), agclip.ClipByGlobalNorm(1.0))


def keras_step(in_keras, keras, rule, apply=None):
    """Take a step by a rule; of an optimizer that takes it in its own way, if one is given."""

    class Foreign(keras.optimizers.SGD):
        pass

    if apply is not None:
        Foreign.apply = apply
    optimizer = in_keras.with_clipping(Foreign(), rule)
    optimizer.apply_gradients([(keras.ops.ones(2), keras.Variable([0.0, 0.0]))])


def keras_growing(keras):
    """Return a rule of another's making whose state grows."""

    class Growing:
        def __repr__(self):
            return "Growing"

        def init(self, params):
            return {"seen": keras.ops.zeros((1,))}

        def update(self, grads, state, params=None):
            clipped, _, info = agclip.ClipByNorm(1.0).update(grads, (), params)
            return clipped, {"seen": keras.ops.zeros((2,))}, info

    return Growing()


def keras_replicas(in_keras, keras):
    """Take a step where TensorFlow has two replicas."""
    import tensorflow as tf

    two = SimpleNamespace(num_replicas_in_sync=2)
    optimizer = keras_optimizer(in_keras, keras)
    optimizer.build([keras.Variable([0.0, 0.0])])
    with mock.patch.object(tf.distribute, "get_strategy", return_value=two):
        optimizer._clip_gradients([keras.ops.ones(2)])


def keras_logged(in_keras, keras):
    """Begin a training that a logger cannot log."""
    logger = in_keras.ClipLogger()
    logger.set_model(SimpleNamespace(optimizer=keras.optimizers.SGD()))
    logger.on_train_begin()
