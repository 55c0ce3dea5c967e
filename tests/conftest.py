"""Which backends can be tested here, and which could not be: the closing word of a run."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agclip.config import KEYS, _environment, _now
from agclip.testing._required import required, unusable
from agclip_backends._host.loader import loader
from scheduling import ByScope, in_brief, longest_first, tell_less
from thinned import mark_programs

OPTIONAL = {
    "array_api_strict": "array-api-strict",
    "ml_dtypes": "ml_dtypes, for bfloat16 in NumPy",
    "optree": "optree, for its containers",
}
TOLD = pytest.StashKey[dict[str, str] | None]()
"""What a process that ran tests tells of the libraries."""


def _reasons() -> dict[str, str]:
    """Return why each library cannot be tested here; empty for optional ones that can."""
    optional = {
        name: "" if importlib.util.find_spec(name) else f"{shown} is not installed"
        for name, shown in OPTIONAL.items()
    }
    return unusable() | optional


@pytest.fixture(autouse=True)
def _without_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin every test with array calls: compiled kernels come with time, or where asked for."""
    monkeypatch.setattr(loader, "module", None)
    monkeypatch.setattr(loader, "work", -(1 << 62))


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The working directory, a repository's root, of a process that has not used a setting yet."""
    for name in (*KEYS, "config", "block"):
        monkeypatch.delenv(f"AGCLIP_{name.upper()}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(_environment, "_said", set())
    folder = tmp_path / "project"
    folder.joinpath(".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    _now.forget()
    yield folder
    _now.forget()


@pytest.fixture(scope="session")
def why_not() -> Callable[[str], str]:
    """A function that says why a library cannot be tested here; empty if it can."""
    reasons = _reasons()
    return lambda name: reasons.get(name, "")


@pytest.fixture(scope="session")
def need_backend(why_not: Callable[[str], str]) -> Callable[[str], None]:
    """A function that ends a test for which a library is missing.

    It skips with the reason, or fails where AGCLIP_REQUIRE_BACKENDS names the library.
    """

    def need(name: str) -> None:
        reason = why_not(name)
        if reason and name in required():
            pytest.fail(f"{name} is required and cannot be used here: {reason}", pytrace=False)
        if reason:
            pytest.skip(f"{name} cannot be used here: {reason}")

    return need


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Leave most cells of what takes long to `make test-all`, and begin with the rest of it."""
    mark_programs(items)  # before the marks choose what is run
    yield
    if hasattr(config, "workerinput"):
        longest_first(items)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are collected, and leave what is there then out of it.

    Libraries and tests are millions of objects that stay: to look at all of them takes a second,
    and trainers ask for it at the end of each training. Afterwards it is collected less often than
    usual, after 50,000 new objects and not 700: that takes 4 % of the time of the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(50_000)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Replace the scheduler of `--dist loadscope`, and keep the order that tests come in."""
    if config.getoption("dist") != "loadscope":
        return None
    config.option.loadscopereorder = False
    return ByScope(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let one of several processes tell less of its tests."""
    tell_less(session.config)


@pytest.hookimpl(tryfirst=True)
def pytest_report_to_serializable(
    config: pytest.Config, report: pytest.TestReport | pytest.CollectReport
) -> dict[str, bool] | None:
    """Write nothing down of what is not told."""
    return in_brief(config, report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let one of several processes tell the first one, which has imported no library."""
    if getattr(session.config, "workerinput", {}).get("workerid") == "gw0":
        session.config.workeroutput["reasons"] = _reasons()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Keep what that process tells."""
    node.config.stash[TOLD] = getattr(node, "workeroutput", {}).get("reasons") or (
        node.config.stash.get(TOLD, None)
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which backends were not tested, and why."""
    if config.getoption("no_summary"):  # pytest 9 asks all the same, and libraries are imported
        return
    reasons = config.stash.get(TOLD, None) or _reasons()
    lines = [f"{name}: {reason}" for name, reason in sorted(reasons.items()) if reason]
    if lines:
        terminalreporter.section("not tested here")
        for line in lines:
            terminalreporter.write_line(line)
