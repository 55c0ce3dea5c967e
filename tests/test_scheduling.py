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


@pytest.mark.parametrize("prefix", scheduling.TOGETHER)
def test_files_that_share_what_takes_long_are_one_scope(prefix):
    names = (f"{prefix}a.py::test_it[::]", f"{prefix}b.py::TestIt::test_it")
    assert {scheduling.scope_of(name) for name in names} == {prefix}


def test_what_is_named_as_long_or_as_one_is_there():
    root = Path(__file__).parents[1]
    names = [name.partition("::")[0] for name in scheduling.FIRST]
    missing = [name for name in names if not (root / name).exists()]
    missing += [prefix for prefix in scheduling.TOGETHER if not [*root.glob(f"{prefix}*")]]
    assert missing == []


REPORTS = {
    "set up": (("setup", "passed", []), False),
    "passed": (("call", "passed", []), True),
    "failed": (("call", "failed", []), True),
    "torn down": (("teardown", "passed", []), False),
    "skipped": (("setup", "skipped", []), True),
    "an error": (("teardown", "failed", []), True),
    "printed": (("setup", "passed", [("Captured stdout setup", "x")]), True),
}


class Interactor:
    """What sends messages, and notes them."""

    def __init__(self):
        self.sent = []

    def sendevent(self, name, **values):
        self.sent.append((name, values))


def process(**options):
    """Return the configuration of a process, and its interactor."""
    told = {"durations": None, "xmlpath": None, "verbose": 0} | options
    interactor = Interactor()
    plugins = SimpleNamespace(get_plugins=lambda: [object(), interactor])
    made = SimpleNamespace(
        option=SimpleNamespace(**told), pluginmanager=plugins, stash=pytest.Stash()
    )
    scheduling.tell_less(made)
    return made, interactor


def sent_of(config, interactor, kind):
    report = pytest.TestReport("a", ("a.py", 1, "a"), {}, kind[1], None, kind[0], kind[2])
    data = scheduling.in_brief(config, report)
    interactor.sendevent("testreport", data={"all": True} if data is None else data)
    return interactor.sent


@pytest.mark.parametrize(("kind", "told"), REPORTS.values(), ids=REPORTS)
def test_of_what_passes_the_call_alone_is_told(kind, told):
    assert bool(sent_of(*process(), kind)) == told


def test_ends_are_told_and_beginnings_are_not():
    _, interactor = process()
    for name in ("logstart", "logfinish", "runtest_protocol_complete"):
        interactor.sendevent(name)
    assert [name for name, _ in interactor.sent] == ["logfinish", "runtest_protocol_complete"]


@pytest.mark.parametrize(
    "options", [{"durations": 9}, {"xmlpath": "a.xml"}, {"verbose": 1}], ids=str
)
def test_who_asks_for_more_is_told_all(options):
    assert sent_of(*process(**options), REPORTS["set up"][0]) != []


def test_a_process_alone_tells_nobody():
    plugins = SimpleNamespace(get_plugins=lambda: [object()])
    config = SimpleNamespace(
        option=SimpleNamespace(durations=None, xmlpath=None, verbose=0),
        pluginmanager=plugins,
        stash=pytest.Stash(),
    )
    scheduling.tell_less(config)
    report = pytest.TestReport("a", ("a.py", 1, "a"), {}, "passed", None, "setup")
    assert scheduling.in_brief(config, report) is None
