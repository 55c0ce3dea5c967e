"""A look at who holds what, before the first step."""

import numpy as np
import pytest

import agclip
from agclip import distributed
from ranks.thread_ranks import together

TREES = [{"a": 1.0, "R": 2.0}, {"b": 2.0, "R": 2.0}, {"c": 4.0, "R": 2.0}, {}]


def inspected(replicas, change=lambda tree, _: tree):
    def program(rank, met):
        tree = {key: np.array([x, 1.0], np.float32) for key, x in TREES[rank].items()}
        found = distributed.inspect(change(tree, rank), met.communicator(rank), replicas)
        return [(one.path, one.shape, one.holders, one.replicas, one.agrees) for one in found]

    return together(len(TREES), program)


def test_every_rank_is_told_how_many_hold_each_of_its_leaves():
    for name, found in zip("abc", inspected({"R": 3, "*": 1}), strict=False):
        assert found == [(name, (2,), 1, 1, True), ("R", (2,), 3, 3, True)]


def test_a_rank_without_leaves_takes_part():
    assert inspected(None)[3] == []


@pytest.mark.parametrize(
    ("replicas", "agree"), [(None, False), ({"R": 2}, False), ({"R": 0}, True)]
)
def test_a_forgotten_or_wrong_number_is_found(replicas, agree):
    for found in inspected(replicas)[:3]:
        assert [one[4] for one in found] == [True, agree]


def test_parts_that_differ_are_not_held_alike():
    def change(tree, rank):
        return {key: leaf + (key == "R") * rank for key, leaf in tree.items()}

    for found in inspected(None, change)[:3]:
        assert [one[2:] for one in found] == [(1, 1, True)] * 2


def test_what_agrees_gives_the_norm_of_one_process():
    replicas = {"R": 3, "*": 1}

    def program(rank, met):
        tree = {key: np.array([x]) for key, x in TREES[rank].items()}
        return float(agclip.global_norm(tree, comm=met.communicator(rank), replicas=replicas))

    assert together(3, program) == [5.0] * 3
