"""The docstrings of public names have an example each, and it gives what it says."""

import doctest
import importlib
import inspect

import numpy as np
import pytest

import agclip
from agclip._backends import registry
from agclip._trees import tree
from agclip.config import _now

NAMED_BY_A_TYPE = {"Given", "Attachment", "ClipState", "NonFiniteError"}
"""Of these a caller gets an object, or names none: what returns them has the example."""
NEEDS_A_FILE_OF_TESTS = {"BackendConformance"}
MODULES = ("agclip", "agclip.config", "agclip.distributed", "agclip.testing")


def cases():
    for module in MODULES:
        public = importlib.import_module(module)
        for name in public.__all__:
            thing = getattr(public, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            if name in NAMED_BY_A_TYPE | NEEDS_A_FILE_OF_TESTS:
                continue
            marks = [pytest.mark.slow] if name == "check_backend" else []
            yield pytest.param(thing, id=f"{module}.{name}", marks=marks)


@pytest.fixture
def as_before():
    """Forget what an example registers and sets."""
    kept = dict(registry._registered), dict(tree._containers)
    yield
    for there, before in zip((registry._registered, tree._containers), kept, strict=True):
        there.clear()
        there.update(before)
    registry.forget_types()
    _now.forget()


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize("thing", list(cases()))
def test_the_example_of_a_public_name_gives_what_it_says(thing):
    if "array_api_strict" in inspect.getdoc(thing):
        pytest.importorskip("array_api_strict")
    names = {"agclip": agclip, "np": np}
    finder = doctest.DocTestFinder(recurse=False)
    (found,) = finder.find(thing, thing.__name__, False, names, names)
    assert found.examples, "there is an example"
    assert doctest.DocTestRunner().run(found).failed == 0


@pytest.mark.parametrize("name", ["uninstall", "is_installed"])
def test_the_example_of_what_pytorch_is_asked_gives_what_it_says(name):
    pytest.importorskip("torch")
    thing = getattr(importlib.import_module("agclip.integrations.torch"), name)
    (found,) = doctest.DocTestFinder(recurse=False).find(thing, name, False, {}, {})
    assert found.examples, "there is an example"
    assert doctest.DocTestRunner().run(found).failed == 0
