"""Generators of gradients: walked once, and returned as the list of what they gave."""

import numpy as np
import pytest

import agclip
import matrix

TWINS = {name: one for name, one in matrix.SUBJECTS.items() if one.inplace}


@pytest.fixture(params=TWINS)
def subject(request):
    return TWINS[request.param]


def gradients(subject):
    """The leaves of a step; rules by groups name leaves, which a list has not."""
    if subject.public == "PerGroup":
        pytest.skip("its patterns fit names, and the leaves of a generator have none")
    return [np.array([[3.0, 0.5], [-0.25, -4.0]]), np.array([0.25, -0.5])]


def params():
    return [np.array([[1.0, 1.0], [2.0, 0.0]]), np.array([0.5, 0.125])]


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in place"])
def test_a_generator_is_clipped_as_the_list_of_its_leaves(subject, inplace):
    leaves = gradients(subject)
    (wanted,), _ = subject.run([gradients(subject)], params(), "propagate", inplace=False)
    (got,), _ = subject.run([(x for x in leaves)], params(), "propagate", inplace=inplace)
    assert isinstance(got, list)
    assert [one.tolist() for one in got] == [one.tolist() for one in wanted]
    assert [one is other for one, other in zip(got, leaves, strict=True)].count(True) >= inplace


def test_a_generator_in_place_gives_back_the_very_arrays():
    leaves = [np.array([3.0, 4.0]), np.array([0.0])]
    got, norm = agclip.clip_by_global_norm_((x for x in leaves), 1.0)
    assert all(one is other for one, other in zip(got, leaves, strict=True))
    assert leaves[0].tolist() == [0.6000000000000001, 0.8]
    assert norm == 5.0
