"""The docstrings of public names have an example each, and it gives what it says."""

import doctest
import importlib.util
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import agclip
from agclip._backends import registry
from agclip._trees import tree
from agclip.config import _now

ROOT = Path(__file__).parents[2]
CALLED_BY_OTHERS = {"ClipGradients"}
"""Hooks that Lightning calls: the example trains, and so calls them."""
MODULES = ("agclip", "agclip.config", "agclip.distributed", "agclip.testing")


def cases():
    for module in MODULES:
        public = importlib.import_module(module)
        for name in public.__all__:
            if name == "BackendConformance" and importlib.util.find_spec("hypothesis") is None:
                continue
            thing = getattr(public, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
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


def shown_methods():
    """The methods that the reference shows of a class, with the class's own example."""
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        module = ""
        for line in re.split(r"\n(?=\.\. )", page.read_text(encoding="utf-8")):
            if there := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = there[1]
            elif (there := re.match(r"\.\. autoclass:: (\w+)", line)) and ":members:" in line:
                if there[1] in CALLED_BY_OTHERS:
                    continue
                yield pytest.param(module, there[1], id=f"{module}.{there[1]}")


def without_an_example(kind):
    """The public methods of a class that no example calls, neither their own nor the class's."""
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(kind))
    calls = "\n".join(example.source for example in examples)
    methods = {
        name: value
        for name, value in vars(kind).items()
        if not name.startswith("_")
        if inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod))
    }
    return [
        name
        for name, value in methods.items()
        if f".{name}" not in calls and ">>>" not in (inspect.getdoc(value) or "")
    ]


@pytest.mark.parametrize(("module", "name"), list(shown_methods()))
def test_every_method_that_the_reference_shows_is_called_in_an_example(module, name):
    if module.startswith("agclip.integrations"):
        pytest.importorskip(module.rpartition(".")[2])
    assert without_an_example(getattr(importlib.import_module(module), name)) == []
