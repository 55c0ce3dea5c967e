"""Which backends can be tested here, and which could not be: the closing word of a run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

from agclip.testing._required import required, unusable

OPTIONAL = {
    "array_api_strict": "array-api-strict",
    "ml_dtypes": "ml_dtypes, for bfloat16 in NumPy",
    "optree": "optree, for its containers",
}


@pytest.fixture(scope="session")
def need_backend() -> Callable[[str], None]:
    """A function that ends a test for which a library is missing.

    It skips with the reason, or fails where AGCLIP_REQUIRE_BACKENDS names the library.
    """
    reasons = unusable()

    def need(name: str) -> None:
        reason = reasons.get(name, _not_installed(name))
        if reason and name in required():
            pytest.fail(f"{name} is required and cannot be used here: {reason}", pytrace=False)
        if reason:
            pytest.skip(f"{name} cannot be used here: {reason}")

    return need


def _not_installed(name: str) -> str:
    if name not in OPTIONAL or importlib.util.find_spec(name) is not None:
        return ""
    return f"{OPTIONAL[name]} is not installed"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which backends were not tested, and why."""
    absent = unusable() | {name: _not_installed(name) for name in OPTIONAL}
    lines = [f"{name}: {reason}" for name, reason in sorted(absent.items()) if reason]
    if lines:
        terminalreporter.section("not tested here")
        for line in lines:
            terminalreporter.write_line(line)
