"""The conformance suite from the outside: its report, its command, and its class for pytest."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import pytest

import agclip
from agclip import testing
from agclip.testing import _sampling
from agclip.testing.__main__ import main
from agclip.testing._report import Outcome, Report

REPORT = Report(
    "mylib",
    "1.2",
    (
        Outcome("one", "One is one.", "passed"),
        Outcome("two", "Two is two.", "failed", "two must be 2; got 3\nin add"),
        Outcome("three", "Three is three.", "skipped", "mylib has no threes"),
        Outcome("four", "Four is four.", "skipped", "mylib has no threes"),
    ),
)


def test_a_report_shows_counts_failures_and_reasons():
    assert str(REPORT).splitlines() == [
        "mylib 1.2: 1 passed, 1 failed, 2 skipped",
        "  FAILED two",
        "         Two is two.",
        "         two must be 2; got 3",
        "         in add",
        "  skipped 2: mylib has no threes",
    ]


def test_a_report_without_failures_is_well():
    assert not REPORT.ok
    assert dataclasses.replace(REPORT, outcomes=REPORT.outcomes[2:]).ok


# The command.


@pytest.fixture
def usable_and_not(monkeypatch):
    """One backend that passes, and one that cannot be used."""
    rows = [
        agclip.BackendInfo(name="numpy", version="2", usable=True, reason="", source="agclip"),
        agclip.BackendInfo(
            name="slowlib", version=None, usable=False, reason="it has no driver", source="other"
        ),
    ]
    monkeypatch.setattr(agclip, "backends", lambda: rows)
    monkeypatch.delenv("AGCLIP_REQUIRE_BACKENDS", raising=False)
    passing = Report("numpy", "2", (Outcome("one", "One.", "passed"),))
    monkeypatch.setattr(testing.__main__, "check_backend", lambda _: passing)


@pytest.mark.usefixtures("usable_and_not")
def test_the_command_reports_every_backend_and_closes_with_the_counts(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "numpy 2: 1 passed, 0 failed, 0 skipped",
        "slowlib: NOT TESTED: it has no driver",
        "1 passed, 0 failed, 1 skipped",
    ]


@pytest.mark.usefixtures("usable_and_not")
def test_a_backend_that_is_named_must_be_usable(capsys):
    assert main(["slowlib"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


@pytest.mark.usefixtures("usable_and_not")
def test_a_backend_that_is_required_must_be_usable(capsys, monkeypatch):
    monkeypatch.setenv("AGCLIP_REQUIRE_BACKENDS", "numpy, slowlib,nolib")
    assert main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "nolib: NOT TESTED: no installed distribution brings a backend of that name",
        "numpy 2: 1 passed, 0 failed, 0 skipped",
        "slowlib: NOT TESTED: it has no driver",
        "1 passed, 2 failed, 0 skipped",
    ]


def test_the_command_runs_as_a_module():
    done = _python("-m", "agclip.testing", "nolib")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


# The class.

SUBCLASS = """
    import dataclasses

    import agclip
    import pytest
    from agclip.testing import BackendConformance, Library

    numpy = agclip.get_backend("numpy")


    class TestRight(BackendConformance):
        backend = "numpy"
        checks = BackendConformance.checks[2:5]
        examples = 2


    class TestWrong(BackendConformance):
        checks = BackendConformance.checks[10:11]

        @pytest.fixture(scope="class")
        @classmethod
        def library(cls):
            cursed = {"refuse": lambda _: "is cursed", "survey": lambda *_: None}
            agclip.register_backend(dataclasses.replace(numpy, **cursed))
            return Library("numpy", "cursed numpy")
"""


def test_a_subclass_runs_the_suite(tmp_path):
    tmp_path.joinpath("test_mylib.py").write_text(textwrap.dedent(SUBCLASS))
    done = _python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), cwd=tmp_path)
    properties = len(_sampling.PROPERTIES)
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"{properties + 1} failed, {properties + 3} passed"), done.stdout
    assert "got one that is cursed at" in done.stdout


def test_importing_the_suite_needs_neither_pytest_nor_hypothesis():
    code = """
        import sys
        import agclip.testing
        assert not {"pytest", "hypothesis"} & set(sys.modules), "imported too early"
        assert agclip.testing.BackendConformance.__name__ == "BackendConformance"
        assert {"pytest", "hypothesis"} <= set(sys.modules)
    """
    done = _python("-c", textwrap.dedent(code))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_has_no_other_attributes():
    with pytest.raises(
        AttributeError, match=r"^module 'agclip\.testing' has no attribute 'Oracle'$"
    ):
        testing.Oracle  # noqa: B018 - the access is the test


def _python(*arguments, cwd=None):
    environment = {k: v for k, v in os.environ.items() if k != "AGCLIP_REQUIRE_BACKENDS"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
