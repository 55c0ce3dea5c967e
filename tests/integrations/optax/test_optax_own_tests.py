"""The tests that optax ships of its clipping, with agclip's functions in the places of its own."""

import importlib
import unittest

import pytest

pytest.importorskip("optax", reason="optax is not installed")

from optax import transforms

from agclip.integrations import optax as ours

NAMES = sorted(set(ours.__all__) & set(dir(transforms)))


@pytest.fixture
def case(monkeypatch):
    """The class of optax's tests, which look the functions up in a module."""
    tests = pytest.importorskip(
        "optax.transforms._clipping_test", reason="this optax ships no tests of its clipping"
    )
    theirs = importlib.import_module("optax.transforms._clipping")
    for name in NAMES:
        monkeypatch.setattr(theirs, name, getattr(ours, name))
    return tests.ClippingTest


def test_there_is_one_for_each_function():
    assert NAMES == [
        "adaptive_grad_clip",
        "clip",
        "clip_by_block_rms",
        "clip_by_global_norm",
        "per_example_global_norm_clip",
        "per_example_layer_norm_clip",
    ]


def test_they_pass(case):
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun >= 7
    assert [text for _, text in [*result.failures, *result.errors]] == []
