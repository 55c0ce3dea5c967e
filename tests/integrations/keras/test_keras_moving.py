"""The rows of "Moving from Keras's arguments" in docs/keras.md, against the live arguments."""

import math

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

from keras import ops  # noqa: E402

import agclip  # noqa: E402
from agclip.integrations.keras import with_clipping  # noqa: E402

BACKEND = keras.backend.backend()
NAN = math.nan
RULES = {
    "clipnorm": agclip.ClipByNorm,
    "global_clipnorm": agclip.ClipByGlobalNorm,
    "clipvalue": lambda bound: agclip.ClipByValue(-bound, bound),
}


@pytest.fixture(params=["keras", "agclip"])
def library(request):
    return request.param


def optimizer(library, argument, bound, rate=1.0, **options):
    """Return an optimizer that clips by an argument of Keras, or by the rule that stands for it."""
    if library == "keras":
        return keras.optimizers.SGD(rate, **{argument: bound}, **options)
    return with_clipping(keras.optimizers.SGD(rate, **options), RULES[argument](bound))


def clipped(one, *grads, dtype="float32"):
    """Return what a step takes from variables that are zero."""
    ws = [keras.Variable(np.zeros(len(g)), dtype=dtype) for g in grads]
    one.apply_gradients(
        [(ops.cast(ops.array(g), dtype), w) for g, w in zip(grads, ws, strict=True)]
    )
    return [(0.0 - w.numpy()).tolist() for w in ws]


def one(library, argument, bound, grad, **options):
    return clipped(optimizer(library, argument, bound), grad, **options)[0]


# --- the same ----------------------------------------------------------------------------------


def test_each_variable_by_its_norm(library):
    one, two = clipped(optimizer(library, "clipnorm", 1.0), [3.0, 4.0], [0.3, 0.4])
    assert (one, two) == (pytest.approx([0.6, 0.8]), pytest.approx([0.3, 0.4]))


def test_all_variables_by_their_norm(library):
    one, two = clipped(optimizer(library, "global_clipnorm", 1.0), [3.0], [4.0])
    assert (one, two) == (pytest.approx([0.6]), pytest.approx([0.8]))


def test_each_element(library):
    assert one(library, "clipvalue", 0.5, [-3.0, 0.25]) == [-0.5, 0.25]


@pytest.mark.parametrize("argument", ["clipnorm", "global_clipnorm"])
def test_accumulated_gradients_are_clipped_once(library, argument):
    w = keras.Variable([0.0, 0.0])
    used = optimizer(library, argument, 1.0, gradient_accumulation_steps=2)
    for factor in (1.0, -0.9):
        used.apply_gradients([(ops.array([3.0 * factor, 4.0 * factor]), w)])
    # Their mean is within the bound; each of them is not.
    np.testing.assert_allclose(w.numpy(), [-0.15, -0.2], rtol=1e-5)


def test_weight_decay_is_not_clipped(library):
    w = keras.Variable([100.0, 100.0])
    used = optimizer(library, "clipnorm", 1.0, weight_decay=0.5)
    used.apply_gradients([(ops.array([3.0, 4.0]), w)])
    np.testing.assert_allclose(w.numpy(), [49.4, 49.2], rtol=1e-6)


def test_nan_spreads_by_norm_and_stays_by_value(library):
    for argument in ("clipnorm", "global_clipnorm"):
        np.testing.assert_equal(one(library, argument, 1.0, [NAN, 1.0]), [NAN, NAN])
    np.testing.assert_equal(one(library, "clipvalue", 1.0, [NAN, 4.0]), [NAN, 1.0])


# --- different ---------------------------------------------------------------------------------


def test_two_arguments_are_a_chain():
    with pytest.raises(ValueError, match="Only one of"):
        keras.optimizers.SGD(1.0, clipvalue=1.0, global_clipnorm=1.0)
    chain = agclip.Chain(agclip.ClipByValue(-3.0, 3.0), agclip.ClipByGlobalNorm(1.0))
    used = with_clipping(keras.optimizers.SGD(1.0), chain)
    np.testing.assert_allclose(clipped(used, [30.0, 40.0])[0], [0.5**0.5, 0.5**0.5], rtol=1e-6)


@pytest.mark.parametrize("argument", RULES)
def test_a_bound_of_zero_clips_to_zero(argument):
    assert one("keras", argument, 0.0, [3.0, 4.0]) == [3.0, 4.0]
    assert one("agclip", argument, 0.0, [3.0, 4.0]) == [0.0, 0.0]


@pytest.mark.parametrize("argument", ["clipnorm", "global_clipnorm"])
def test_a_bound_below_zero_is_an_error(argument):
    assert one("keras", argument, -1.0, [3.0, 4.0]) == [3.0, 4.0]
    with pytest.raises(ValueError, match="must be a number >= 0"):
        one("agclip", argument, -1.0, [3.0, 4.0])


# --- mended ------------------------------------------------------------------------------------

MENDED = {
    "overflow, each": ("clipnorm", 1.0, [1e20, 1e20], "float32", [0.0, 0.0], [0.5**0.5] * 2),
    "overflow, all": ("global_clipnorm", 1.0, [1e20, 1e20], "float32", [NAN] * 2, [0.5**0.5] * 2),
    "overflow, half": ("global_clipnorm", 1.0, [300.0, 0.0], "float16", [NAN] * 2, [1.0, 0.0]),
    "underflow, each": ("clipnorm", 1e-26, [3e-25, 4e-25], "float32", [0.0] * 2, [6e-27, 8e-27]),
    "underflow, all": (
        *("global_clipnorm", 1e-26, [3e-25, 4e-25], "float32"),
        *([3e-25, 4e-25], [6e-27, 8e-27]),
    ),
    "inf": ("clipnorm", 1.0, [math.inf, 1.0], "float32", [NAN, 0.0], [NAN, NAN]),
    "no bound, each": ("clipnorm", math.inf, [3.0, 4.0], "float32", [NAN] * 2, [3.0, 4.0]),
    "no bound, all": ("global_clipnorm", math.inf, [3.0, 4.0], "float32", [NAN] * 2, [3.0, 4.0]),
}


@pytest.mark.parametrize("case", MENDED)
def test_what_is_mended(case):
    argument, bound, grad, dtype, theirs, ours = MENDED[case]
    for library, expected in (("keras", theirs), ("agclip", ours)):
        found = one(library, argument, bound, grad, dtype=dtype)
        assert found == pytest.approx(expected, rel=1e-5, abs=0.0, nan_ok=True), library


def test_within_the_bound_nothing_is_changed():
    theirs = np.float32(one("keras", "global_clipnorm", 41.0, [3.0, 4.0]))
    assert theirs.tolist() == np.float32([2.9999998, 3.9999998]).tolist()
    assert one("agclip", "global_clipnorm", 41.0, [3.0, 4.0]) == [3.0, 4.0]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow alone has slices of rows")
def test_rows_that_occur_twice():
    import tensorflow as tf

    for library, norm in (("keras", (10 / 6) ** 0.5), ("agclip", 1.0)):
        w = keras.Variable(np.zeros((4, 2)), dtype="float32")
        slices = tf.IndexedSlices(tf.ones((3, 2)), tf.constant([1, 1, 2]), tf.constant([4, 2]))
        optimizer(library, "clipnorm", 1.0).apply_gradients([(slices, w)])
        assert np.linalg.norm(w.numpy()) == pytest.approx(norm)
