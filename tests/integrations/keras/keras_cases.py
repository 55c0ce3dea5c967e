"""What the tests of the Keras integration have in common.

A process has one backend of Keras: here it is the one that Keras is told, and
`test_keras_backends.py` runs the files named `test_keras_on_*` in a process for each of the others.
"""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

from keras import ops  # noqa: E402

from agclip.integrations.keras import with_clipping  # noqa: E402

BACKEND = keras.backend.backend()
if BACKEND not in ("tensorflow", "jax", "torch"):
    pytest.skip(f"no optimizer of Keras trains on {BACKEND}", allow_module_level=True)

whole = pytest.mark.whole
# What Keras saves with takes seconds to import, and an eager step of JAX to compile.
whole_elsewhere = whole if BACKEND != "tensorflow" else pytest.mark.filterwarnings()
GRAD = np.asarray([3.0, 4.0], "float32")


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
