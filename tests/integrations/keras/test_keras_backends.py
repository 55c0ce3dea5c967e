"""The files `test_keras_on_*.py`, each backend that this process has not in one of its own."""

import ast
import functools
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

CASES = sorted(Path(__file__).parent.glob("test_keras_on_*.py"))
ROOT = Path(__file__).parents[3]
BACKENDS = [name for name in ("tensorflow", "jax", "torch") if name != keras.backend.backend()]
TESTS = {
    node.name: {ast.unparse(mark) for mark in node.decorator_list}
    for path in CASES
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}
"""The marks of each test."""
QUICK = [name for name, marks in TESTS.items() if not marks & {"whole", "whole_elsewhere"}]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """A function that returns what became of the cases on a backend, by the name of the test."""

    @functools.cache
    def run(backend, chosen):
        report = tmp_path_factory.mktemp(backend) / "report.xml"
        # The conftest would import every library, to say which are there.
        more = ["-p", "no:cacheprovider", "-p", "no:xdist", "--noconftest"]
        told = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "AGCLIP_CONFIG": "none"}
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *CASES, "-m", chosen, "--junitxml", report, *more],
            env={**os.environ, **told},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode in (0, 1), ended.stdout + ended.stderr
        found = {}
        for case in ET.parse(report).iter("testcase"):
            found.setdefault(case.get("name").partition("[")[0], []).append(list(case))
        return found

    return run


def passed(outcomes, backend, chosen, name):
    """Fail or skip as a case has."""
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    cases = outcomes(backend, chosen)[name]
    said = [one for case in cases for one in case if one.tag != "properties"]
    failures = [one.text for one in said if one.tag in ("failure", "error")]
    assert not failures, "\n\n".join(failures)
    if len(said) == len(cases):
        pytest.skip(said[0].get("message"))


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "torch"])
def test_a_case(backend, name, outcomes):
    passed(outcomes, backend, "not whole", name)


@pytest.mark.whole
@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_case_of_the_whole_matrix(backend, name, outcomes):
    passed(outcomes, backend, "whole or not whole", name)
