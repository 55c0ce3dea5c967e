"""In which order the processes of `make test` take the tests, and what they tell of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

try:
    from xdist.scheduler import LoadScopeScheduling
except ImportError:  # without pytest-xdist there is one process
    LoadScopeScheduling = object

FIRST = (
    "tests/backends/test_fused_compile.py",
    "tests/backends/test_inductor.py",
    "tests/backends/test_jax.py",
    "tests/backends/test_jax_places.py",
    "tests/backends/test_tensorflow_canaries.py",
    "tests/backends/test_torch_dynamic.py",
    "tests/backends/test_torch_fresh.py",
    "tests/cli/test_cli_demo.py",
    "tests/cli/test_cli_tools.py",
    "tests/conformance/test_conformance.py::TestCompiledFunctions",
    "tests/integrations/",
    "tests/testing/",
)
"""Few tests that take seconds each: at the end, all processes but one would wait for them."""
TOGETHER = ("tests/backends/test_fused_", "tests/ranks/")
"""How the names of files begin whose tests share what takes long: one process runs them all."""
UNTOLD = "untold"
BRIEF = pytest.StashKey[bool]()


def scope_of(nodeid: str) -> str:
    """Return the class, file or files that a test belongs to, whose tests stay in one process."""
    scope = nodeid.rpartition("::")[0]
    return next((name for name in TOGETHER if scope.startswith(name)), scope)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests by scopes: those that take long, and then those of the most tests."""
    sizes = Counter(scope_of(item.nodeid) for item in items)

    def place(item: pytest.Item) -> tuple[bool, int, str]:
        scope = scope_of(item.nodeid)
        return not scope.startswith(FIRST), -sizes[scope], scope

    items.sort(key=place)


def tell_less(config: pytest.Config) -> None:
    """Have a process of pytest-xdist tell nothing of what begins or ends as it should.

    It sends six messages a test, which take a millisecond: a tenth of the time of most tests.
    Someone who asks for durations, names or a file is told everything.
    """
    options, plugins = config.option, config.pluginmanager.get_plugins()
    senders = [one for one in plugins if hasattr(one, "sendevent")]
    if options.durations or options.xmlpath or options.verbose > 0 or not senders:
        return
    (interactor,) = senders
    send = interactor.sendevent

    def told(name: str, **values: Any) -> None:
        if name != "logstart" and not (name == "testreport" and UNTOLD in values["data"]):
            send(name, **values)

    interactor.sendevent = told
    config.stash[BRIEF] = True


def in_brief(config: pytest.Config, report: Any) -> dict[str, bool] | None:
    """Return what is made of a report that is not told of; None for all others."""
    brief = config.stash.get(BRIEF, False) and isinstance(report, pytest.TestReport)
    if not brief or report.when == "call" or not report.passed or report.sections:
        return None
    return {UNTOLD: True}


class Numbered(list[str]):
    """The tests of a process, and the number of each."""

    def __init__(self, nodeids: Sequence[str]) -> None:
        super().__init__(nodeids)
        self._numbers = {nodeid: number for number, nodeid in enumerate(nodeids)}

    def index(self, nodeid: str) -> int:  # type: ignore[override]
        """Return the number of a test."""
        return self._numbers[nodeid]


class ByScope(LoadScopeScheduling):
    """The scheduler of `--dist loadscope`, which forgets what has run, with scopes of our own.

    That of pytest-xdist 3.8 searches the list of all tests for each one that it hands out, and
    counts them whenever one has ended: for 36,000 that takes it ten seconds.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Keep the tests of a process."""
        super().add_node_collection(node, collection)
        if node in self.registered_collections:
            self.registered_collections[node] = Numbered(collection)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Note that a test has ended."""
        nodeid = self.registered_collections[node][item_index]
        scope = self._split_scope(nodeid)
        running = self.assigned_work[node]
        del running[scope][nodeid]
        if not running[scope]:
            del running[scope]
        self._reschedule(node)
