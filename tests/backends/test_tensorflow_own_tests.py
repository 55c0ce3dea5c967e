"""Tests that TensorFlow keeps of its clips and that cannot pass in a function, with any clip.

They are in its `clip_ops_test.py`, which its wheels leave out; what passes is in the documentation.
"""

import pytest

import agclip
import arrays

COMPILED = [None, True]


@pytest.fixture(scope="module")
def tf():
    arrays.library("tensorflow")
    return pytest.importorskip("tensorflow")


@pytest.fixture(params=["TensorFlow", "agclip"])
def clips(request, tf):
    """The functions of both libraries."""
    return {"TensorFlow": tf, "agclip": agclip}[request.param]


@pytest.mark.parametrize("jit_compile", COMPILED)
def test_no_function_takes_or_returns_slices_with_a_tuple_for_a_shape(tf, clips, jit_compile):
    """TensorFlow's `testClipByGlobalNormPreservesDenseShape`, in `tf.function`."""
    slices = tf.IndexedSlices(tf.constant([1.0]), tf.constant([0]), dense_shape=(1,))
    [kept], _ = clips.clip_by_global_norm([slices], 1.0)
    assert kept.dense_shape == (1,)
    traced = tf.function(clips.clip_by_global_norm, autograph=False, jit_compile=jit_compile)
    with pytest.raises(AttributeError, match="'tuple' object has no attribute 'dtype'"):
        traced([slices], 1.0)


def unoptimised(tf):
    """What TensorFlow's tests set for their sessions."""
    found = tf.compat.v1.ConfigProto()
    found.graph_options.optimizer_options.opt_level = -1
    return found


def branching(tf):
    """Return a clip with a branch, of TensorFlow's operations alone."""

    def clip(x, bound):
        norm = tf.norm(x)
        return tf.cond(norm <= bound, lambda: x * 1.0, lambda: x * (bound / norm))

    return clip


@pytest.mark.parametrize("name", ["a branch", "agclip"])
@pytest.mark.parametrize("optimised", [False, True])
def test_xla_differentiates_no_branch_where_nothing_is_inlined(tf, name, optimised):
    """TensorFlow's `testClipByNormGradientZeros`, compiled by XLA in a session."""
    clip = agclip.clip_by_norm if name == "agclip" else branching(tf)
    config = None if optimised else unoptimised(tf)
    with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
        x = tf.zeros([3])
        traced = tf.function(clip, autograph=False, jit_compile=True)
        [derivative] = tf.compat.v1.gradients(traced(x, 1.0), x)
        if optimised:
            assert session.run(derivative).tolist() == [1.0, 1.0, 1.0]
            return
        with pytest.raises(tf.errors.InvalidArgumentError, match="Optional"):
            session.run(derivative)
