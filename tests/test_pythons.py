"""The Pythons that a release claims are those that something has run on, and no others.

What is tried and what is said of it stand in three places: the classifiers of the distribution, the
table of the page on how to install it, and the oldest one that pip lets in.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHON = "Programming Language :: Python :: "


def tried():
    """Return the Pythons that the table names, and whether anything has run on each."""
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = [row.strip("|").split("|") for row in page.splitlines() if row.startswith("| ")]
    return {
        version: "not tried" not in state
        for system, state in (row[:2] for row in rows)
        if "CPython" in system
        for version in re.findall(r"\b3\.\d+", system)
    }


def classified():
    names = [name.removeprefix(PYTHON) for name in PROJECT["classifiers"]]
    return [name for name in names if re.fullmatch(r"3\.\d+", name)]


def test_a_python_is_claimed_where_something_has_run_on_it():
    assert sorted(classified()) == sorted(version for version, ran in tried().items() if ran)


def test_the_oldest_that_is_let_in_is_the_oldest_that_is_claimed():
    oldest = min(classified(), key=lambda version: int(version.partition(".")[2]))
    assert PROJECT["requires-python"] == f">={oldest}"
