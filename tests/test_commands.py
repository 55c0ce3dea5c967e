"""Every command, module, file and target that a page names is there."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]
    if page.name != "CHANGELOG.md" and "_build" not in page.parts
)
PAGES += [ROOT / "bench" / "README.md"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FOLDERS = "agclip|backends|bench|docs|examples|tests"
MADE = ("docs/_build", "bench/results", "backends/agclip_backends/NAME.py")
"""What a command makes, and what stands for another name."""
ELSEWHERE = {"agclip/config.toml"}
"""In the folder of the user's settings."""


def code(page):
    """Return what a page sets as code: blocks, and words within sentences."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```.*?\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    words = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", words)])


def missing_modules(text, find):
    """The modules of this repository that are run by their name and are not there."""
    named = re.findall(r"python3? -m ((?:agclip|bench)[\w.]*)", text)
    named += re.findall(r"(?<![\w./])(bench(?:\.[a-z_]+)+)\b(?!\()", text)
    return [name for name in named if not find(name.removesuffix(".py"))]


def missing_files(text):
    """The files and folders of this repository that are not there."""
    named = re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./*-]*)", text)
    kept = [name.rstrip(".") for name in named if not name.startswith(MADE)]
    return [name for name in kept if name not in ELSEWHERE and not [*ROOT.glob(name)]]


def missing_targets(text):
    """The targets and variables of the Makefile that are not there."""
    commands = re.findall(r"^(?:\$ )?make\b([^\n#;,`]*)", text, flags=re.MULTILINE)
    words = [word for line in commands for word in re.sub(r'"[^"]*"', "", line).split()]
    targets = {word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)}
    variables = {word.partition("=")[0] for word in words if re.match(r"[A-Z]+=", word)}
    there = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, flags=re.MULTILINE))
    known = set(re.findall(r"^([A-Z_]+) *\?=", MAKEFILE, flags=re.MULTILINE))
    return sorted((targets - there) | (variables - known))


@pytest.fixture(params=PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def text(request):
    return code(request.param)


@pytest.fixture
def find(monkeypatch):
    """Tell whether a module can be found, in the checkout too."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))  # what is found is imported on the way

    def found(name):
        return (ROOT / Path(*name.split("."))).with_suffix(".py").exists() or (
            importlib.util.find_spec(name) is not None
        )

    return found


def test_a_module_that_is_run_is_there(text, find):
    assert missing_modules(text, find) == []


def test_a_file_that_is_named_is_there(text):
    assert missing_files(text) == []


def test_a_target_that_is_made_is_there(text):
    assert missing_targets(text) == []


def test_a_benchmark_that_is_chosen_is_there(text):
    chosen = re.findall(r"-k (test_\w+)", text)
    assert [name for name in chosen if not [*ROOT.glob(f"bench/**/{name}.py")]] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("python3 -m bench.gpu --budget 1", []),
        ("python -m bench.gpu_fused", ["bench.gpu_fused"]),
        ("`bench.nothing`", ["bench.nothing"]),
    ],
)
def test_the_check_of_modules_can_fail(text, found, find):
    assert set(missing_modules(text, find)) == set(found)


@pytest.mark.parametrize(
    ("check", "text", "found"),
    [
        (missing_files, "python3 bench/gpu_fused.py --budget 100", ["bench/gpu_fused.py"]),
        (missing_files, "tests/fuzz.py, docs/_build/html and tests/backends", []),
        (missing_targets, "make test TORCH= VENV=.venv\n$ make demo", []),
        (missing_targets, 'make tests PYTEST="-k norm"', ["PYTEST", "tests"]),
    ],
)
def test_the_check_of_files_and_targets_can_fail(check, text, found):
    assert check(text) == found
