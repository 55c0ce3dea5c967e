"""`agclip check`: what it says if all is well, if a backend is wrong, and if there is none."""

import dataclasses
import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import agclip
from agclip._backends import registry
from agclip.cli import main
from agclip.testing import _quick, _surroundings
from agclip.testing._quick import quick_checks
from agclip.testing.harness.check import Check
from agclip_backends._host import compiler
from agclip_backends._host.loader import loader


def found(capsys, *arguments):
    status = main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_check_finds_nothing_wrong(backend, capsys):
    status, document = found(capsys, "check", "--backend", backend)
    (row,) = document["backends"]
    assert (status, row["name"], row["failures"], row["warnings"]) == (0, backend, {}, {})
    assert row["checks"]["passed"] >= 15
    assert document["versions"]["agclip"] == agclip.__version__


def test_check_as_tables(capsys):
    assert main(["check", "--backend", "numpy"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    passed = f"{len(quick_checks())} passed, 0 failed, 0 skipped"
    assert ["agclip", agclip.__version__] in lines
    assert ["numpy", np.__version__, *passed.split()] in lines
    assert out.endswith("No check failed with numpy.\n")


def test_check_lists_what_results_may_depend_on(capsys):
    with agclip.config_context(accelerate="off", threads=2):
        status, document = found(capsys, "check", "--backend", "numpy")
        assert main(["check", "--backend", "numpy"]) == 0
    assert status == 0
    assert {"numba", "optree"} <= set(document["versions"])
    assert document["kernels"] == "array calls (config_context says so)"
    assert document["settings"]["threads"] == "2 (config_context)"
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["kernels", "array", "calls", "(config_context", "says", "so)"] in lines
    assert ["setting", "threads", "2", "(config_context)"] in lines


KERNELS = {
    "compiled by Numba, once that is worth it": ("auto", True, None, False),
    "compiled by Numba, once that is worth it (in a thread: it was forked)": (
        "auto",
        True,
        None,
        False,
        "it was forked",
    ),
    "compiled by Numba": ("auto", True, object(), False),
    "array calls (Numba cannot compile here)": ("auto", True, None, True),
    "array calls (Numba is not installed)": ("auto", False, None, False),
    "array calls (config_context says so)": ("off", True, None, False),
}


@pytest.mark.parametrize("text", KERNELS)
def test_kernels_are_told(text, monkeypatch):
    accelerate, installed, module, hopeless, *reason = KERNELS[text]
    monkeypatch.setattr(compiler, "trial", lambda: "".join(reason))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: installed or None)
    monkeypatch.setattr(loader, "module", module)
    monkeypatch.setattr(loader, "hopeless", hopeless)
    with agclip.config_context(accelerate=accelerate) as settings:
        assert _surroundings.kernels(settings) == text


@pytest.fixture
def half_scale(monkeypatch):
    """NumPy's backend with a kernel that scales by half of what it should."""
    numpy = agclip.get_backend("numpy")

    def scale(xp, leaves, factor):
        return [leaf / 2 for leaf in numpy.scale(xp, leaves, factor)]

    wrong = dataclasses.replace(numpy, scale=scale)
    monkeypatch.setattr(registry, "_registered", {**registry._registered, "numpy": wrong})
    monkeypatch.setattr(registry, "BY_TYPE", {})


@pytest.mark.usefixtures("half_scale")
def test_what_is_wrong_is_told_with_what_was_expected(capsys):
    assert main(["check", "--backend", "numpy"]) == 1
    captured = capsys.readouterr()
    assert re.search(
        r"  FAILED vector clip_by_norm: worked example, float32\n"
        r"         .*\n"
        r"         result, entry 0 must be \S+ within \S+ ulp of float32; got ",
        captured.out,
    )
    count = captured.out.count("FAILED")
    assert f" passed, {count} failed, " in captured.out
    assert "No check failed" not in captured.out
    assert captured.err == (
        f"agclip check: error: {count} checks failed, with numpy. Please report that, with what is "
        f"above.\n"
    )


@pytest.mark.usefixtures("half_scale")
def test_what_is_wrong_is_in_the_document(capsys):
    status, document = found(capsys, "check", "--backend", "numpy")
    (row,) = document["backends"]
    assert status == 1
    assert len(row["failures"]) == row["checks"]["failed"]
    assert "; got " in row["failures"]["vector clip_by_norm: worked example, float32"]


def test_check_of_a_backend_that_breaks_is_told(monkeypatch, capsys):
    def broken(name):
        msg = "out of memory"
        raise MemoryError(msg)

    monkeypatch.setattr(_quick, "Library", broken)
    status, document = found(capsys, "check", "--backend", "numpy")
    assert (status, document["backends"][0]["failures"]) == (
        1,
        {"arrays are made": "MemoryError: out of memory"},
    )


def test_check_tells_what_is_right_but_warned_of(monkeypatch, capsys):
    overflow = Check("overflow", "It is inf.", lambda _: np.float32(3e38) * np.float32(10))
    monkeypatch.setattr(_quick, "quick_checks", lambda: [overflow])
    assert main(["check", "--backend", "numpy"]) == 0
    out = capsys.readouterr().out
    assert "0 passed, 0 failed, 0 skipped, 1 right, but warned" in out
    assert "  warned 1: RuntimeWarning: overflow" in out


INTEGRATIONS = {
    "installed": (lambda: True, ["agclip's functions are installed in place of toylib's own."]),
    "not installed": (lambda: False, []),
    "without a say": (None, []),
}


@pytest.fixture(params=INTEGRATIONS)
def integration(request, monkeypatch):
    """A module of `agclip.integrations` that is loaded, and the notes on it."""
    installed, notes = INTEGRATIONS[request.param]
    module = SimpleNamespace() if installed is None else SimpleNamespace(is_installed=installed)
    monkeypatch.setitem(sys.modules, "agclip.integrations.toylib", module)
    return notes


def test_check_notes_what_stands_in_for_a_library(integration, capsys):
    status, document = found(capsys, "check", "--backend", "numpy")
    assert (status, document["notes"]) == (0, integration)
    assert main(["check", "--backend", "numpy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("Note: ")] == [
        f"Note: {note}" for note in integration
    ]


def test_the_conformance_suite_notes_it_too(integration):
    lines = _surroundings.described().splitlines()
    assert lines[4:] == [f"note: {note}" for note in integration]


@pytest.mark.usefixtures("unusable")
def test_check_of_everything_passes_over_what_cannot_be_used(capsys):
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert "not usable: no device" in out
    assert out.endswith("Nothing was checked: no backend can be used.\n")


def test_check_of_a_backend_that_cannot_be_used_fails(monkeypatch, capsys):
    def get_backend(name):
        msg = f"the backend {name!r} must be usable here; got: no device"
        raise RuntimeError(msg)

    monkeypatch.setattr(agclip, "get_backend", get_backend)
    assert main(["check", "--backend", "cupy"]) == 1
    assert capsys.readouterr().err == (
        "agclip check: error: the backend 'cupy' must be usable here; got: no device\n"
    )
