"""Graphs of `tf.compat.v1.Session`, in which `==` and `!=` of tensors compare objects."""

import itertools
import math

import numpy as np
import pytest

import agclip
import arrays

LEAVES = {
    "plain": (3.0, 4.0),
    "nan": (math.nan, 4.0),
    "inf": (math.inf, 1.0),
    "big": (1e30, 1e30),
    "tiny": (1e-30, 1e-30),
    "zero": (0.0, 0.0),
}


def slices(tf, x, **shape):
    return tf.IndexedSlices(x, tf.constant([1, 1]), **shape)


CALLS = {
    "value": lambda tf, x: agclip.clip_by_value(x, -1.0, 1.0),
    "norm": lambda tf, x: agclip.clip_by_norm(x, 2.5),
    "axes": lambda tf, x: agclip.clip_by_norm(x[None], 2.5, 1),
    "largest": lambda tf, x: agclip.clip_by_norm(x, 2.5, ord=math.inf),
    "use_norm": lambda tf, x: agclip.clip_by_global_norm([x], 2.5, use_norm=math.inf),
    "reproducible": lambda tf, x: agclip.clip_by_global_norm([x], 2.5, reproducible=True),
    "adaptive": lambda tf, x: agclip.adaptive_grad_clip(
        [x], [tf.ones_like(x)], 0.1, unit_axes=(0,)
    ),
    "slices": lambda tf, x: agclip.clip_by_global_norm([slices(tf, x)], 2.5)[0][0].values,
    "values of slices": lambda tf, x: agclip.clip_by_value(slices(tf, x), -1.0, 1.0).values,
}
RULES = {
    "zclip": agclip.ZClip(warmup=1),
    "autoclip": agclip.AutoClip(window=3),
    "adagc": agclip.AdaGC(warmup=1),
    "spike": agclip.SpikeClip(),
    "quantile": agclip.QuantileClip(),
}


def steps(rule):
    def run(tf, x):
        state, found = rule.init([x]), []
        for factor in (1.0, 2.0, 9.0):
            clipped, state, info = rule.update([x * factor], state)
            found.append((clipped, state, info.norm, info.scale, info.threshold, info.nonfinite))
        return found

    return run


CALLS |= {name: steps(rule) for name, rule in RULES.items()}
QUICK = {("value", "nan"), ("use_norm", "inf"), ("reproducible", "plain"), ("slices", "plain")}
CELLS = [
    pytest.param(*cell, marks=() if cell in QUICK else pytest.mark.whole)
    for cell in itertools.product(CALLS, LEAVES)
]


@pytest.fixture(scope="module")
def tf():
    arrays.library("tensorflow")
    return pytest.importorskip("tensorflow")


@pytest.mark.parametrize(("call", "leaf"), CELLS)
def test_a_session_returns_what_a_function_does(tf, call, leaf):
    def run(x):
        return tf.nest.flatten(CALLS[call](tf, x))

    expected = tf.function(run, autograph=False)(tf.constant(LEAVES[leaf]))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        found = session.run(run(tf.constant(LEAVES[leaf])))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


@pytest.mark.parametrize("shape", [(3,), [3]], ids=["tuple", "list"])
def test_slices_whose_shape_is_no_tensor(tf, shape):
    from agclip._backends import registry

    registry.forget_types()  # the first leaf of a class is looked at closely
    x = slices(tf, tf.constant([3.0, 1.0]), dense_shape=shape)
    [clipped], norm = agclip.clip_by_global_norm([x], 2.0)
    assert (clipped.values.numpy().tolist(), float(norm)) == ([1.5, 0.5], 4.0)
    assert clipped.dense_shape is shape
    assert agclip.clip_by_rms(x, 1.0).values.numpy().tolist() == pytest.approx(
        [3.0 / (4.0 / math.sqrt(3)), 1.0 / (4.0 / math.sqrt(3))]
    )
    rule = agclip.ClipByGlobalNorm(2.0)
    (again,), _, _ = rule.update([x], (), [tf.zeros([3])])
    assert again.values.numpy().tolist() == [1.5, 0.5]
