"""Environment variables: words for values, and a warning for those that mean nothing."""

import warnings

import numpy as np
import pytest

import agclip
import arrays
from agclip import config

pytestmark = pytest.mark.usefixtures("project")

# --- words -------------------------------------------------------------------------------------

WORDS = {
    "BACKEND": [("numpy", "numpy"), ("torch,numpy", ("torch", "numpy")), (" auto ", "auto")],
    "DEVICE": [("cpu", "cpu"), ("auto", None)],
    "ON_FOREIGN": [("convert", "convert")],
    "ON_SHARD": [("whole", "whole")],
    "ACCELERATE": [("numba", "numba")],
    "THREADS": [("4", 4), (" 2 ", 2), ("auto", None)],
    "NONFINITE": [("zero", "zero")],
    "REPRODUCIBLE": [(w, True) for w in ("1", "true", "yes", "on", "True", "YES", " On ")],
    "STRICT": [(w, False) for w in ("0", "false", "no", "off", "False", "NO", " Off ")],
    "CLIP": [
        ('{ rule = "norm", clip_norm = 1.5 }', ({"rule": "norm", "clip_norm": 1.5},)),
        ("[{rule = 'a'}, {rule = 'b'}]", ({"rule": "a"}, {"rule": "b"})),
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "value"), [(n, t, v) for n, pairs in WORDS.items() for t, v in pairs]
)
def test_a_variable_sets_a_value(monkeypatch, name, text, value):
    monkeypatch.setenv(f"AGCLIP_{name}", text)
    settings = agclip.get_config()
    assert getattr(settings, name.lower()) == value
    assert settings.source(name.lower()) == f"AGCLIP_{name}"


def test_every_setting_has_a_variable():
    assert {name.lower() for name in WORDS} == {*config.KEYS}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_says_nothing(monkeypatch, name, text):
    monkeypatch.setenv(f"AGCLIP_{name}", text)
    assert agclip.get_config().source(name.lower()) == "default"


def test_variables_are_read_at_the_first_use_and_not_again(monkeypatch):
    monkeypatch.setenv("AGCLIP_STRICT", "on")
    assert agclip.get_config().strict
    monkeypatch.setenv("AGCLIP_STRICT", "off")
    agclip.set_config(nonfinite="zero")
    assert agclip.get_config().strict
    assert not agclip.load_config().strict
    assert agclip.get_config().nonfinite == "zero"


# --- variables that mean nothing ---------------------------------------------------------------


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [(str(w.message), w.category, w.filename) for w in caught]


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("AGCLIP_BAKEND", " Did you mean 'AGCLIP_BACKEND'?"),
        ("AGCLIP_ZZZ", ""),
    ],
)
def test_an_unknown_variable_is_warned_of_once(monkeypatch, name, question):
    monkeypatch.setenv(name, "1")
    found = warned(lambda: agclip.clip_by_norm([1.0], 1.0))
    text = f"{name} is no variable of agclip, and is ignored.{question}"
    assert found == [(text, UserWarning, __file__)]
    assert warned(agclip.load_config) == []


def test_the_variables_of_the_conformance_suite_and_of_the_search_are_known(monkeypatch):
    monkeypatch.setenv("AGCLIP_REQUIRE_BACKENDS", "numpy")
    monkeypatch.setenv("AGCLIP_CONFIG", "none")
    monkeypatch.setenv("AGCLIP_BLOCK", "dask")
    assert warned(agclip.get_config) == []


# --- AGCLIP_BLOCK ------------------------------------------------------------------------------

TOY = "__version__ = '7.0'\nclass Array:\n    dtype = shape = __mul__ = None\n"
REASON = "AGCLIP_BLOCK names it. Take it out of that variable to use it."


@pytest.fixture
def registry(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


@pytest.fixture
def toylib(project, registry, monkeypatch):
    """A library whose adapter would end the process, but is blocked."""
    registry.install(
        "agclip-toy",
        {"toylib": "toy_adapter:backend"},
        {"toylib": TOY, "toy_adapter": "raise SystemExit"},
    )
    monkeypatch.setenv("AGCLIP_BLOCK", "dask, toylib")
    return pytest.importorskip("toylib", reason="it has just been installed")


@pytest.mark.usefixtures("toylib")
def test_a_blocked_backend_is_listed_with_the_reason_and_not_loaded():
    row = next(row for row in agclip.backends() if row.name == "toylib")
    assert row == agclip.BackendInfo(
        name="toylib", version="7.0", usable=False, reason=REASON, source="agclip-toy"
    )


@pytest.mark.usefixtures("toylib")
def test_a_blocked_backend_concerns_no_other_library():
    assert agclip.clip_by_norm(np.asarray([3.0, 4.0]), 1.0).tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.usefixtures("toylib")
def test_a_blocked_backend_may_be_registered():
    mine = agclip.Backend(name="toylib", xp=np)
    agclip.register_backend(mine)
    assert agclip.get_backend("toylib") is mine


def test_a_library_of_the_standard_works_without_its_blocked_backend(registry, monkeypatch):
    monkeypatch.setenv("AGCLIP_BLOCK", "numpy")
    agclip.register_backend(agclip.Backend(name="other", xp=np))
    clipped = agclip.clip_by_norm(np.asarray([3.0, 4.0]), 1.0)
    assert clipped.tolist() == pytest.approx([0.6, 0.8])
    assert registry.folder.is_dir()


def test_blocking_what_nobody_brings_is_warned_of(monkeypatch):
    monkeypatch.setenv("AGCLIP_BLOCK", "tocrh")
    text = (
        "AGCLIP_BLOCK names 'tocrh', which no installed distribution brings. Did you mean 'torch'?"
    )
    assert [found[0] for found in warned(agclip.get_config)] == [text]
