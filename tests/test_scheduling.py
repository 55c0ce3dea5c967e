"""How the processes of `make test` share the tests."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import scheduling

pytest.importorskip("xdist", reason="pytest-xdist is not installed")

SIZES = {"tests/rules/test_a.py": 3, "tests/rules/test_b.py": 7, "tests/testing/test_c.py": 2}
TESTS = [f"{scope}::test_it[{k}]" for scope, size in SIZES.items() for k in range(size)]


class Process:
    """A process that notes which tests it is given."""

    def __init__(self, name):
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.given = []

    def send_runtest_some(self, numbers):
        self.given += numbers

    def shutdown(self):
        self.shutting_down = True


@pytest.fixture
def scheduler():
    """One for two processes, to which tests have been handed out."""
    option = SimpleNamespace(loadscopereorder=False)
    config = SimpleNamespace(option=option, getvalue=lambda _: ["2*popen"])
    made = scheduling.ByScope(config, SimpleNamespace(loadscopesched=lambda *_: None))
    for process in map(Process, "ab"):
        made.add_node(process)
        made.add_node_collection(process, TESTS)
    made.schedule()
    return made


def test_every_test_is_handed_out_once_and_scopes_are_whole(scheduler):
    a, b = scheduler.nodes
    ran = {a: [], b: []}
    while a.given or b.given:
        for process in (a, b):
            if process.given:
                ran[process].append(process.given.pop(0))
                scheduler.mark_test_complete(process, ran[process][-1])
    assert sorted(ran[a] + ran[b]) == [*range(len(TESTS))]
    scopes = [{scheduling.scope_of(TESTS[number]) for number in done} for done in ran.values()]
    assert not scopes[0] & scopes[1]
    assert scheduler.tests_finished
    assert not scheduler.has_pending


def test_a_process_that_died_names_its_test_and_leaves_the_rest_to_others(scheduler):
    a, _ = scheduler.nodes
    scheduler.mark_test_complete(a, a.given.pop(0))
    assert scheduler.remove_node(a) == TESTS[a.given[0]]
    assert scheduler.has_pending


def test_few_long_tests_come_first_and_then_the_largest_scopes():
    items = [SimpleNamespace(nodeid=name) for name in TESTS]
    scheduling.longest_first(items)
    scopes = dict.fromkeys(scheduling.scope_of(item.nodeid) for item in items)
    assert [scope[-4] for scope in scopes] == ["c", "b", "a"]
    assert [item.nodeid for item in items if "test_b" in item.nodeid] == TESTS[3:10]


def test_what_is_named_as_long_is_there():
    root = Path(__file__).parents[1]
    missing = [name for name in scheduling.FIRST if not (root / name.partition("::")[0]).exists()]
    assert missing == []
