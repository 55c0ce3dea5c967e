"""A program that is over: what Python refuses then is no reason to fail a clip."""

import threading

import numpy as np
import pytest

import agclip
from agclip_backends._host.loader import Loader, loader

# What CPython 3.12 says; 3.11 says the first two.
REFUSALS = [
    "can't register atexit after shutdown",
    "cannot schedule new futures after interpreter shutdown",
    "can't create new thread at interpreter shutdown",
]


def clip():
    (clipped,), norm = agclip.clip_by_global_norm([np.ones(4, np.float32)], 1.0)
    return clipped.tolist(), float(norm)


@pytest.fixture
def refused(monkeypatch):
    """A clip with compiled kernels asked for, whose loading Python refuses in the given words."""
    pytest.importorskip("numba", reason="Numba is not installed")
    tries = []

    def run(words):
        def load():
            tries.append(words)
            raise RuntimeError(words)

        monkeypatch.setattr(loader, "module", None)
        monkeypatch.setattr(loader, "hopeless", False)
        monkeypatch.setattr(loader, "load", load)
        with agclip.config_context(accelerate="numba"):
            return clip(), clip(), len(tries)

    return run


@pytest.mark.parametrize("words", REFUSALS)
def test_what_is_refused_at_the_end_is_gone_without(refused, words):
    wanted = ([0.5] * 4, 2.0)
    assert refused(words) == (wanted, wanted, 1)


def test_what_is_refused_for_another_reason_is_raised(refused):
    with pytest.raises(RuntimeError, match="no cache here"):
        refused("no cache here")


def test_nothing_is_imported_once_the_main_thread_has_ended(monkeypatch):
    pytest.importorskip("numba", reason="Numba is not installed")
    ended = threading.Thread(target=int)
    monkeypatch.setattr(threading, "main_thread", lambda: ended)
    fresh = Loader()
    monkeypatch.setattr(fresh, "load", lambda: pytest.fail("Numba was imported"))
    with agclip.config_context(accelerate="numba"):
        assert (fresh.kernels(), fresh.hopeless) == (None, True)
