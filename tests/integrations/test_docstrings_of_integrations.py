"""The docstrings of the integrations have an example each, and it gives what it says."""

import ast
import contextlib
import doctest
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import agclip

FOLDER = Path(agclip.__file__).parent / "integrations"
NEEDS = {"optax": ("jax", "optax"), "torch": ("torch",)}


def public_names(module):
    """Return the public names of an integration, without importing what it is for."""
    path = FOLDER / module
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    nodes = ast.parse(source.read_text(encoding="utf-8")).body
    for node in nodes:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    defined = [n.name for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    return [name for name in defined if not name.startswith("_")]


MODULES = ("torch", "optax", "lightning", "accelerate", "transformers")
CASES = [f"{module}.{name}" for module in MODULES for name in public_names(module)]


def failures(module, name):
    """Run the example of a name, and return what is wrong with it; None if there is no example."""
    thing = getattr(importlib.import_module(f"agclip.integrations.{module}"), name)
    (found,) = doctest.DocTestFinder(recurse=False).find(thing, name, False, {}, {})
    if not found.examples:
        return None
    out = io.StringIO()
    doctest.DocTestRunner(verbose=False).run(found, out=out.write)
    return out.getvalue()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Run in a folder of its own, and leave PyTorch's functions as they are."""
    monkeypatch.chdir(tmp_path)
    yield
    with contextlib.suppress(ImportError):
        integration = importlib.import_module("agclip.integrations.torch")
        if integration.is_installed():
            integration.uninstall()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.filterwarnings("ignore")  # trainers warn of few workers, and of what is deprecated
@pytest.mark.parametrize("case", CASES)
def test_the_example_gives_what_it_says(case):
    module, name = case.split(".")
    for library in NEEDS.get(module, ("torch", module)):
        pytest.importorskip(library, reason=f"{library} is not installed")
    assert failures(module, name) == "", "there is an example, and it is right"


KERAS = """
import doctest, sys
import agclip.integrations.keras as integration

for name in integration.__all__:
    thing = getattr(integration, name)
    (found,) = doctest.DocTestFinder(recurse=False).find(thing, name, False, {}, {})
    assert found.examples, name
    assert not doctest.DocTestRunner().run(found).failed, name
"""


@pytest.mark.slow
def test_the_examples_of_keras_give_what_they_say():
    for library in ("keras", "torch"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    done = subprocess.run(  # the library of Keras is chosen for a whole process
        [sys.executable, "-c", KERAS],
        env={
            **os.environ,
            "KERAS_BACKEND": "torch",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
