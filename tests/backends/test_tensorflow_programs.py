"""How leaves are summed and multiplied in a function of TensorFlow: by XLA, in branches, or not."""

import collections
import math

import numpy as np
import pytest

import agclip

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


def test_few_leaves_have_a_branch_and_many_have_fewer_operations(nodes):
    # A leaf takes a product in the inner branches each, or one and a division.
    few, many = nodes([2000 + i for i in range(200)]), nodes([2000 + i for i in range(300)])
    assert few["StatelessIf"] + few["If"] == 2
    assert many["StatelessIf"] + many["If"] == 1
    assert sum(many.values()) / 300 < sum(few.values()) / 200


def test_one_that_is_large_has_a_branch_among_many(nodes):
    found = nodes([*(2000 + i for i in range(300)), 1 << 18])
    assert found["StatelessIf"] + found["If"] == 2
