"""In which order the processes of `make test` take the tests."""

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


def scope_of(nodeid: str) -> str:
    """Return the class or file that a test belongs to, whose tests stay in one process."""
    return nodeid.rpartition("::")[0]


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests by scopes: those that take long, and then those of the most tests."""
    sizes = Counter(scope_of(item.nodeid) for item in items)

    def place(item: pytest.Item) -> tuple[bool, int, str]:
        scope = scope_of(item.nodeid)
        return not scope.startswith(FIRST), -sizes[scope], scope

    items.sort(key=place)


class Numbered(list[str]):
    """The tests of a process, and the number of each."""

    def __init__(self, nodeids: Sequence[str]) -> None:
        super().__init__(nodeids)
        self._numbers = {nodeid: number for number, nodeid in enumerate(nodeids)}

    def index(self, nodeid: str) -> int:  # type: ignore[override]
        """Return the number of a test."""
        return self._numbers[nodeid]


class ByScope(LoadScopeScheduling):
    """The scheduler of `--dist loadscope`, which forgets what has run.

    That of pytest-xdist 3.8 searches the list of all tests for each one that it hands out, and
    counts them whenever one has ended: for 36,000 that takes it ten seconds.
    """

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
