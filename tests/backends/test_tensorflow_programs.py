"""How leaves are summed and multiplied in a function of TensorFlow: by XLA, in branches, or not."""

import collections
import math

import numpy as np
import pytest

import agclip
from thinned import thinned

BOUND = 2.5


@pytest.fixture(scope="module")
def tf(need_backend):
    need_backend("tensorflow")
    return pytest.importorskip("tensorflow")


@pytest.fixture
def nodes(tf):
    """A function that traces a clip of leaves of some lengths, and counts operations."""

    def count(lengths):
        function = tf.function(lambda leaves: agclip.clip_by_global_norm(leaves, BOUND))
        specs = [tf.TensorSpec([n]) for n in lengths]
        graph = function.get_concrete_function(specs).graph.as_graph_def()
        found = collections.Counter(node.op for node in graph.node)
        for inner in graph.library.function:
            found.update(node.op for node in inner.node_def)
        return found

    return count


MIXED = [*(1 << 16 << k for k in range(3)), 65_537, 100_003, 3000, 3000, 7, 1, 1 << 20]


@pytest.mark.parametrize("far", [0.5, 3.0])
@pytest.mark.parametrize(
    "lengths",
    [
        MIXED,
        [1500] * 260,
        # compiles two dozen programs
        pytest.param([70_000 + 16 * i for i in range(26)], marks=pytest.mark.whole),
    ],
)
def test_leaves_of_any_lengths_are_clipped_rightly(tf, lengths, far):
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(n).astype(np.float32) for n in lengths]
    norm = math.sqrt(math.fsum(float((a.astype(np.float64) ** 2).sum()) for a in arrays))
    bound = norm / far
    function = tf.function(lambda leaves: agclip.clip_by_global_norm(leaves, bound))
    new, found = function([tf.constant(a) for a in arrays])
    assert abs(float(found) - norm) <= np.spacing(np.float32(norm))
    factor = min(1.0, bound / norm)
    for one, array in zip(new, arrays, strict=True):
        exact = array.astype(np.float64) * factor
        assert (np.abs(one.numpy() - exact) <= 1.5 * np.spacing(np.abs(exact).astype("f"))).all()


def test_no_more_than_two_dozen_lengths_are_compiled(nodes):
    found = nodes([70_000 + i for i in range(40)])
    assert found["StatefulPartitionedCall"] + found["PartitionedCall"] == 24
    assert found["L2Loss"] == 16


def test_one_length_is_one_program(nodes):
    found = nodes([70_000] * 40)
    assert found["StatefulPartitionedCall"] + found["PartitionedCall"] == 40
    assert found["Split"] + found["SplitV"] == 1


# --- how much is traced ------------------------------------------------------------------------


def test_few_leaves_have_a_branch_and_many_have_fewer_operations(nodes):
    # A leaf takes a product in the inner branches each, or one and a division.
    few, many = nodes([2000 + i for i in range(200)]), nodes([2000 + i for i in range(300)])
    assert few["StatelessIf"] + few["If"] == 2
    assert many["StatelessIf"] + many["If"] == 1
    assert sum(many.values()) / 300 < sum(few.values()) / 200


def test_one_that_is_large_has_a_branch_among_many(nodes):
    found = nodes([*(2000 + i for i in range(300)), 1 << 18])
    assert found["StatelessIf"] + found["If"] == 2


@pytest.mark.parametrize(
    ("lengths", "calls"),
    [([2000] * 300, 18), (range(2000, 2300), 0)],
    ids=["alike", "different"],
)
def test_products_are_traced_of_some_leaves_and_called_for_those_of_one_shape(
    nodes, lengths, calls
):
    found = nodes(lengths)
    # 16 leaves each: their squares, and once or twice a product; 3 more are the norm's.
    assert found["L2Loss"] == 16
    assert found["RealDiv"] == (16 if calls else 0) + 300 - 16 * calls + 3
    assert found["PartitionedCall"] == 19 + calls


@pytest.mark.parametrize(
    ("length", "most"),
    [
        pytest.param(100, 7.1, id="stacked"),
        pytest.param(10_000, 7.6, id="summed by an operation"),
        pytest.param(100_000, 8.5, id="summed by a program"),
        pytest.param(None, 9.3, id="all different"),
    ],
)
def test_a_leaf_is_traced_in_few_operations(tf, length, most):
    """TensorFlow's own clip makes 5 a leaf, and the arguments of a branch are operations."""
    shapes = [3000 + 16 * i for i in range(1000)] if length is None else [length] * 1000
    function = tf.function(lambda leaves: agclip.clip_by_global_norm(leaves, BOUND))
    graph = function.get_concrete_function([tf.TensorSpec([n]) for n in shapes])
    graph = graph.graph.as_graph_def()
    count = len(graph.node)
    for inner in graph.library.function:
        count += len(inner.node_def) + len(inner.signature.input_arg)
    assert count / 1000 <= most


@pytest.mark.parametrize(
    "dtype",
    thinned(["float16", "bfloat16", "float32", "float64", "complex64"], ["float32", "bfloat16"]),
)
@pytest.mark.parametrize("far", [0.5, 3.0, 1e33])
def test_leaves_in_blocks_are_clipped_as_one_is(tf, dtype, far):
    """Of two shapes, of each some leaves more than there are in blocks."""
    rng = np.random.default_rng(5)
    leaves = [tf.cast(tf.constant(rng.standard_normal(1100 + i % 2)), dtype) for i in range(260)]
    norm = float(agclip.global_norm(leaves))

    def clipped(leaves):
        return agclip.clip_by_global_norm(leaves, norm / far, use_norm=norm)[0]

    many, one = tf.function(clipped), tf.function(clipped, reduce_retracing=True)
    graph = many.get_concrete_function(leaves)
    assert [x.shape for x in graph.structured_outputs] == [leaf.shape for leaf in leaves]
    for found, leaf in list(zip(many(leaves), leaves, strict=True))[::37]:
        assert (found.numpy() == one([leaf])[0].numpy()).all()


@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.whole)], ids=["graph", "XLA"]
)
def test_derivatives_through_many_leaves_are_those_of_few(tf, compiled):
    lengths = [1100 + i % 2 for i in range(260)]
    values = np.random.default_rng(6).standard_normal(sum(lengths)).astype(np.float32)
    norm = float(np.sqrt((values.astype(np.float64) ** 2).sum()))

    @tf.function(jit_compile=compiled)
    def slopes(x, far, sizes):
        with tf.GradientTape() as tape:
            tape.watch(x)
            clipped, _ = agclip.clip_by_global_norm(tf.split(x, sizes), norm / far)
            y = tf.reduce_sum(tf.concat(clipped, 0) ** 3)
        return tape.gradient(y, x)

    x = tf.constant(values)
    for far in map(tf.constant, (0.5, 3.0)):
        few = slopes(x, far, [lengths[0], sum(lengths[1:])])
        assert np.allclose(slopes(x, far, lengths), few, 1e-5, 1e-5)
