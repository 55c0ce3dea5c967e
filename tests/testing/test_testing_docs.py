"""The examples for authors of backends, word for word, on libraries without an adapter."""

import importlib
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import agclip
import arrays
from agclip.testing import check_backend
from agclip.testing.__main__ import main

ROOT = Path(__file__).parents[2]
TOYARRAY = (ROOT / "tests/third_party/toyarray.py").read_text(encoding="utf-8")


def blocks(page):
    """The code blocks of a page, of which the indentation is taken away."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```(\w+)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [(kind, textwrap.dedent(block)) for _, kind, block in found]


def block(page, beginning):
    (found,) = [text for _, text in blocks(page) if text.startswith(beginning)]
    return found


@pytest.fixture
def registry(tmp_path):
    with arrays.registry(tmp_path) as lent:
        yield lent


@pytest.fixture
def ten_lines(registry):
    """The backend of the first example, as the page registers it."""
    pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    first = next(text for kind, text in blocks("docs/backends.md") if kind == "python")
    assert "array_api_strict" not in {row.name for row in agclip.backends()}
    exec(compile(first, "docs/backends.md", "exec"), {})
    assert len(first.splitlines()) <= 10
    return registry


@pytest.mark.usefixtures("ten_lines")
def test_the_ten_lines_are_right(capsys):
    report = check_backend("array_api_strict")
    assert report.of("failed") == []
    assert {outcome.detail.partition(":")[0] for outcome in report.of("warned")} <= {
        "RuntimeWarning"
    }
    assert report.counts.passed > 500


@pytest.mark.usefixtures("ten_lines")
def test_the_ten_lines_pass_as_a_command(capsys):
    assert main(["array_api_strict", "--ignore-warnings"]) == 0
    assert re.fullmatch(r"\d{3} passed, 0 failed, \d+ skipped", last(capsys.readouterr().out))


def last(text):
    return text.splitlines()[-1]


ADAPTER = "# agclip_mylib.py"
ENTRY = '[project.entry-points."agclip.backends"]'


@pytest.mark.parametrize("beginning", [ADAPTER, ENTRY])
def test_both_pages_have_the_same_adapter(beginning):
    assert block("CONTRIBUTING.md", beginning) == block("docs/backends.md", beginning)


@pytest.fixture
def mylib(registry):
    """A library called `mylib`, and the adapter and entry point that the page gives it."""
    adapter = block("docs/backends.md", ADAPTER)
    line = block("docs/backends.md", ENTRY).splitlines()[1]
    name, value = (part.strip(' "') for part in line.split("="))
    # It has its functions at the top, as the page has it.
    library = TOYARRAY.replace("toyarray", "mylib") + "\n__getattr__ = namespace.__getattr__\n"
    library += "__array_namespace_info__ = namespace.__array_namespace_info__\n"
    registry.install("agclip-mylib", {name: value}, {"mylib": library, "agclip_mylib": adapter})
    return registry


@pytest.mark.usefixtures("mylib")
def test_the_entry_point_passes_as_a_command(capsys):
    assert main(["mylib"]) == 0
    assert re.fullmatch(r"\d{3} passed, 0 failed, \d+ skipped", last(capsys.readouterr().out))
    x = importlib.import_module("mylib").asarray([3.0, 4.0])
    assert float(agclip.clip_by_norm(x, 2.5)[0]) == 1.5


def test_the_test_class_runs_on_it(mylib, tmp_path):
    suite = block("docs/backends.md", "from agclip.testing import BackendConformance")
    tmp_path.joinpath("test_mylib.py").write_text(suite)
    path = [str(mylib.folder / "agclip-mylib"), *sys.path]
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-k", "worked or extreme or idempotent", str(tmp_path)),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert re.match(r"\d+ passed, .*deselected in", last(done.stdout)), done.stdout
