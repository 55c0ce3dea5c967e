"""The conformance suite from the outside: its report, its command, and its class for pytest."""

import dataclasses
import os
import re
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest

import agclip
from agclip import testing
from agclip.testing import _report
from agclip.testing.__main__ import main
from agclip.testing._report import Outcome, Report
from agclip.testing.checks import sampling
from agclip.testing.harness.check import Check

REPORT = Report(
    "mylib",
    "1.2",
    (
        Outcome("one", "One is one.", "passed"),
        Outcome("two", "Two is two.", "failed", "two must be 2; got 3\nin add"),
        Outcome("three", "Three is three.", "skipped", "mylib has no threes"),
        Outcome("four", "Four is four.", "skipped", "mylib has no threes"),
        Outcome("five", "Five is five.", "warned", "RuntimeWarning: overflow"),
    ),
)


def test_a_report_shows_counts_failures_and_reasons():
    assert str(REPORT).splitlines() == [
        "mylib 1.2: 1 passed, 1 failed, 2 skipped, 1 right, but warned",
        "  FAILED two",
        "         Two is two.",
        "         two must be 2; got 3",
        "         in add",
        "  warned 1: RuntimeWarning: overflow",
        "  skipped 2: mylib has no threes",
    ]


def test_a_report_is_short_in_a_console():
    text = "<Report of mylib 1.2: 1 passed, 1 failed, 2 skipped, 1 right, but warned>"
    assert repr(REPORT) == text


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
    monkeypatch.setattr(testing.__main__, "described", lambda: "what runs here")


@pytest.mark.usefixtures("usable_and_not")
def test_the_command_reports_every_backend_and_closes_with_the_counts(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "what runs here",
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
        "what runs here",
        "nolib: NOT TESTED: no installed distribution brings a backend of that name",
        "numpy 2: 1 passed, 0 failed, 0 skipped",
        "slowlib: NOT TESTED: it has no driver",
        "1 passed, 2 failed, 0 skipped",
    ]


@pytest.mark.usefixtures("usable_and_not")
def test_a_backend_that_breaks_the_suite_does_not_stop_the_others(capsys, monkeypatch):
    def check_backend(library):
        if library.name == "numpy":
            msg = "it has no float32"
            raise TypeError(msg)
        return Report("other", None, (Outcome("one", "One.", "passed"),))

    monkeypatch.setattr(testing.__main__, "check_backend", check_backend)
    monkeypatch.setattr(testing.__main__, "Library", lambda name, **_: SimpleNamespace(name=name))
    monkeypatch.setattr(testing.__main__, "unusable", lambda _: {})
    assert main(["numpy", "other"]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "numpy: NOT TESTED: TypeError: it has no float32",
        "other: 1 passed, 0 failed, 0 skipped",
        "1 passed, 1 failed, 0 skipped",
    ]


@pytest.mark.parametrize(("option", "status"), [([], 1), (["--ignore-warnings"], 0)])
def test_what_is_right_but_warned_of_passes_if_that_is_asked_for(
    option, status, capsys, monkeypatch
):
    """A library that warns of what it computes rightly, as NumPy does of overflow."""
    overflow = Check("overflow", "It is inf.", lambda _: np.float32(3e38) * np.float32(10))
    monkeypatch.setattr(_report, "fixed_checks", lambda: (overflow,))
    monkeypatch.setattr(sampling, "checks", list)
    assert main(["numpy", *option]) == status
    *_, last = capsys.readouterr().out.splitlines()
    warned = "0 passed, 0 failed, 0 skipped, 1 right, but warned"
    assert last == ("1 passed, 0 failed, 0 skipped" if option else warned)
    assert testing.check_backend("numpy").ok


def test_the_command_says_what_runs_here(capsys, monkeypatch):
    monkeypatch.setattr(agclip, "backends", list)
    monkeypatch.delenv("AGCLIP_REQUIRE_BACKENDS", raising=False)
    with agclip.config_context(accelerate="off", threads=2):
        assert main([]) == 0
    versions, kernels, threads, settings, counts = capsys.readouterr().out.splitlines()
    assert versions.startswith(f"agclip {agclip.__version__}, Python {sys.version.split()[0]} (")
    assert re.search(r", numba (\d|not installed).*, optree (\d|not installed)", versions)
    assert kernels == "kernels: array calls (config_context says so)"
    assert threads == "threads: agclip's own, 2 (config_context says so)"
    assert settings.startswith("settings: ")
    assert "accelerate = 'off' (config_context), threads = 2 (config_context)" in settings
    assert counts == "0 passed, 0 failed, 0 skipped"


def test_the_command_runs_as_a_module():
    """As by `python -m agclip.testing nolib`, without the seconds that it takes to import all."""
    code = """
        import runpy, sys
        for name in ("cubed", "cupy", "dask", "jax", "mlx", "tensorflow", "torch"):
            sys.modules[name] = None
        sys.argv = ["agclip.testing", "nolib"]
        runpy.run_module("agclip.testing", run_name="__main__", alter_sys=True)
    """
    done = _python("-c", textwrap.dedent(code))
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
    properties = len(sampling.PROPERTIES)
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"{properties + 1} failed, {properties + 3} passed"), done.stdout
    assert "got one that is cursed at" in done.stdout


MISTYPED = """
    from agclip.testing import BackendConformance


    class TestMistyped(BackendConformance):
        backend = "tocrh"
"""


def test_a_backend_that_is_mistyped_is_one_error(tmp_path):
    tmp_path.joinpath("test_mylib.py").write_text(textwrap.dedent(MISTYPED))
    done = _python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), cwd=tmp_path)
    assert re.search(r"^1 skipped, 1 error in ", done.stdout.splitlines()[-1]), done.stdout
    assert "got 'tocrh'. Did you mean 'torch'?" in done.stdout


WARNS = """
    import numpy
    from agclip.testing import BackendConformance
    from agclip.testing.harness.check import Check


    class TestWarns(BackendConformance):
        backend = "numpy"
        checks = [Check("overflow", "", lambda _: numpy.float32(3e38) * numpy.float32(10))]
        properties = ()
"""


@pytest.mark.parametrize(
    ("options", "result"),
    [([], "1 passed, 1 skipped, 1 warning in "), (["-W", "error"], "1 failed, 1 skipped in ")],
)
def test_what_is_right_but_warned_of_is_a_warning_of_pytest(tmp_path, options, result):
    tmp_path.joinpath("test_mylib.py").write_text(textwrap.dedent(WARNS))
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(tmp_path)]
    done = _python(*command, cwd=tmp_path)
    assert done.stdout.splitlines()[-1].startswith(result), done.stdout
    assert "RuntimeWarning: overflow encountered" in done.stdout


@pytest.mark.parametrize("absent", ["pytest", "hypothesis"])
def test_without_pytest_there_is_the_pip_line(absent):
    code = f"""
        import sys
        sys.modules[{absent!r}] = None
        from agclip.testing import check_backend
        try:
            from agclip.testing import BackendConformance
        except ModuleNotFoundError as error:
            print(error)
    """
    done = _python("-c", textwrap.dedent(code))
    assert done.stdout == (
        f"BackendConformance must have pytest and Hypothesis; got: import of {absent} halted; None "
        f"in sys.modules. Run: pip install pytest hypothesis\n"
    )


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
