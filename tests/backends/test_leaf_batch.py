"""Leaves with columns: what is known of a list holds of the leaves that are chosen from it."""

import numpy as np
import pytest

import agclip
import hosts
from agclip import adapters
from agclip._backends import batch
from agclip_backends._host import tables

pytest_plugins = ["host_fixtures"]

KINDS = ("float16", "float32", "float64", "complex64")
SIZES = ((), (3,), (0, 4), (2, 5))


@pytest.fixture
def leaves(host):
    """A leaf of each dtype and shape."""
    return [host.array(np.ones(shape), dtype) for dtype in KINDS for shape in SIZES]


@pytest.fixture
def surveyed(host, leaves):
    """The same as an adapter surveys them."""
    return survey(host, leaves)


def survey(host, leaves):
    found = agclip.get_backend(host.library).survey(leaves, {*map(type, leaves)}, False)
    assert isinstance(found, adapters.LeafBatch)
    return found


def columns(found):
    """All that is known of a batch."""
    return (
        list(found),
        [*found.column],
        [*found.counts],
        found.kinds,
        found.elements,
        found.access,
    )


POSITIONS = [[0], [7], [15], [1, 2], range(4, 9), range(16), [0, 5, 10, 15], []]


@pytest.mark.parametrize("positions", POSITIONS, ids=str)
def test_chosen_leaves_keep_the_columns_of_the_list(host, leaves, surveyed, positions):
    part = [leaves[i] for i in positions]
    got = batch.chosen(surveyed, positions)
    assert [a is b for a, b in zip(got, part, strict=True)] == [True] * len(part)
    if part:
        assert columns(got)[1:] == columns(survey(host, part))[1:]
    else:
        assert columns(got)[1:] == ([], [], frozenset(), 0, "free")


def test_all_leaves_are_the_batch_itself(surveyed):
    assert batch.chosen(surveyed, range(len(surveyed))) is surveyed


def test_leaves_chosen_from_chosen_ones_keep_them_too(host, leaves, surveyed):
    twice = batch.chosen(batch.chosen(surveyed, range(2, 12)), [0, 5])
    assert columns(twice)[1:] == columns(survey(host, [leaves[2], leaves[7]]))[1:]


@pytest.mark.parametrize("question", ["kinds", "double", "all_real", "elements", "counts"])
@pytest.mark.parametrize("positions", POSITIONS[:-1], ids=str)
def test_a_batch_answers_what_its_leaves_do(surveyed, positions, question):
    some = batch.chosen(surveyed, positions)
    ask = getattr(batch, question)
    assert ask(some) == ask(list(some))


@pytest.mark.parametrize("acc_dtype", ["float32", "float64"])
@pytest.mark.parametrize("positions", POSITIONS[:-1], ids=str)
def test_a_batch_is_as_narrow_as_its_leaves(surveyed, positions, acc_dtype):
    some = batch.chosen(surveyed, positions)
    assert batch.narrow(some, acc_dtype) == batch.narrow(list(some), acc_dtype)


def test_leaves_that_nobody_surveyed_are_chosen_as_they_are():
    assert batch.chosen(["a", "b", "c"], [0, 2]) == ["a", "c"]
    assert batch.access([1, 2]) is None


def test_distinct_leaves_stay_distinct_when_some_are_chosen(host):
    leaves = [host.array([1.0, 2.0]) for _ in range(4)]
    found = agclip.get_backend(host.library).survey(leaves, {*map(type, leaves)}, True)
    assert found.distinct
    assert batch.chosen(found, [1, 3]).distinct
    assert batch.chosen(found, [2]).distinct


# --- compiled kernels --------------------------------------------------------------------------


@pytest.fixture
def passes(monkeypatch):
    """The number of leaves of each pass of a compiled kernel."""
    found, work = [], tables.Leaves.work
    monkeypatch.setattr(
        tables.Leaves, "work", lambda self, *a, **k: found.append(len(self)) or work(self, *a, **k)
    )
    return found


@pytest.mark.parametrize(
    ("dtype", "size", "compiled"),
    [
        ("float32", 1 << 10, False),
        ("float32", 1 << 20, True),
        ("float64", 1 << 10, False),
        ("float16", 1 << 10, False),
        ("float16", 1 << 12, True),
    ],
)
def test_a_leaf_of_its_own_norm_is_multiplied_by_a_kernel_that_pays(
    compiled_host, passes, dtype, size, compiled
):
    leaves = [compiled_host.array(np.ones(size), dtype) for _ in range(2)]
    agclip.clip_by_norm(leaves, 0.25)
    assert passes == [2, 1, 1] if compiled else passes == [2]


@pytest.mark.parametrize("order", [1, 2, float("inf")])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_leaf_among_others_has_the_bits_it_has_alone(compiled_host, dtype, order):
    """The kind: a part of a table gives other bits than a table of the part."""
    host = compiled_host
    draws = [hosts.drawn(dtype, size, seed=size) for size in (5, 300, 5000)]
    together = agclip.clip_by_norm(
        [*map(host.copy, draws)], 0.25, ord=order, reproducible=order < 3
    )
    alone = [
        agclip.clip_by_norm(host.copy(x), 0.25, ord=order, reproducible=order < 3) for x in draws
    ]
    assert [hosts.bits(host.entries(x)) for x in together] == [
        hosts.bits(host.entries(x)) for x in alone
    ]
