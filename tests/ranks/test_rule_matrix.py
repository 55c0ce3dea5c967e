"""Every rule of a global norm over ranks takes the steps of one process, on every rank."""

import dataclasses

import pytest

import agclip
from ranks.rule_cases import RULE_CASES, RULES, kept
from ranks.test_protocol import on_threads
from thinned import thinned

CELLS = thinned(RULE_CASES, kept)


@pytest.mark.parametrize("name", CELLS)
def test_threads_take_the_steps_of_one_process(name):
    logs = [[], []]
    assert on_threads(RULE_CASES[name], logs) == ["the same"] * 2
    assert logs[0] == logs[1] != []


@pytest.mark.parametrize("name", CELLS)
def test_ranks_of_gloo_take_the_steps_of_one_process(name, gloo_rules):
    assert [one.get(name) for one in gloo_rules[:2]] == ["the same"] * 2


@pytest.mark.parametrize("name", CELLS)
def test_ranks_of_mpi_take_the_steps_of_one_process(name, mpi_rules):
    assert [one.get(name) for one in mpi_rules[:2]] == ["the same"] * 2


def test_every_rule_that_takes_a_communicator_is_here():
    def takes_one(rule):
        return dataclasses.is_dataclass(rule) and any(
            field.name == "comm" for field in dataclasses.fields(rule)
        )

    given = {agclip.ClipByNorm: (1.0,), agclip.ClipByAverageNorm: (1.0,)}
    given |= {agclip.ClipByGlobalNorm: (1.0,), agclip.ClipByRMS: (1.0,)}
    found = set()
    for name in agclip.__all__:
        rule = getattr(agclip, name)
        if isinstance(rule, type) and takes_one(rule):
            try:
                rule(*given.get(rule, ()), comm=lambda vector, op: vector)
            except (TypeError, ValueError):
                continue  # a rule of each leaf
            found.add(name)
    assert found == {name.partition(",")[0].partition(" ")[0] for name in RULES} - {
        "Scheduled",
        "Chain",
        "PerGroup",
    }
