"""The list of backends tells what is installed without importing it, and the truth if asked."""

import json
import subprocess
import sys

import pytest

import agclip
import agclip_backends
import arrays
from agclip._backends import entry_points
from agclip.cli import main

PROGRAM = """
import json, sys
import agclip
before = set(sys.modules)
rows = agclip.backends(load=False)
from agclip.cli import main
main(["backends"])
new = {name.partition(".")[0] for name in set(sys.modules) - before} - {"numpy"}
print(json.dumps([[row.name, row.usable, row.reason] for row in rows]))
print(json.dumps(sorted(new & {row.name for row in rows})))
"""


def test_nothing_is_imported_to_list_what_is_there():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120
    )
    *table, listed, imported = done.stdout.splitlines()
    assert json.loads(imported) == []
    rows = {name: (usable, reason) for name, usable, reason in json.loads(listed)}
    assert rows.pop("numpy") == (True, "")
    for name, (usable, reason) in rows.items():
        there = entry_points.installed(name)
        assert (usable, reason == "") == ((None, True) if there else (False, False)), name
    said = {line.split()[0]: line for line in table if line.split()}
    assert said["numpy"].split()[-1] == "yes"
    for name, (usable, _) in rows.items():
        assert (said[name].split()[-1] == "installed") == (usable is None)


@pytest.fixture
def toylib(tmp_path):
    """A library that is installed, and breaks when it is imported."""
    with arrays.registry(tmp_path) as lent:
        lent.install(
            "agclip-toy",
            {"toylib": "agclip_toy:backend"},
            {"toylib": "1 / 0", "agclip_toy": "1 / 0"},
        )
        yield lent


def found(**options):
    return next(row for row in agclip.backends(**options) if row.name == "toylib")


@pytest.mark.usefixtures("toylib")
def test_only_who_loads_knows_whether_it_works(monkeypatch):
    # The others, which are not what this is about, take seconds.
    monkeypatch.setenv("AGCLIP_BLOCK", ",".join(agclip_backends.BACKENDS))
    assert (found(load=False).usable, found(load=False).reason) == (None, "")
    assert found(load=False).source == "agclip-toy"
    row = found()
    assert not row.usable
    assert "ZeroDivisionError" in row.reason


@pytest.mark.usefixtures("toylib")
def test_a_blocked_backend_is_listed_as_such(monkeypatch):
    monkeypatch.setenv("AGCLIP_BLOCK", "toylib")
    row = found(load=False)
    assert (row.usable, "AGCLIP_BLOCK" in row.reason) == (False, True)


def test_a_registered_backend_is_imported_already(tmp_path):
    with arrays.registry(tmp_path):
        agclip.register_backend(agclip.Backend(name="toylib", xp=None, usable=lambda: "no device"))
        row = found(load=False)
    assert (row.usable, row.reason, row.source) == (False, "no device", "register_backend")


@pytest.mark.usefixtures("toylib")
def test_the_command_loads_what_it_is_told_to(capsys, monkeypatch):
    others = set(agclip_backends.BACKENDS) - {"numpy"}
    monkeypatch.setenv("AGCLIP_BLOCK", ",".join(others))
    assert main(["backends"]) == 0
    assert "agclip backends --load" in capsys.readouterr().out
    assert main(["backends", "--load"]) == 0
    said = capsys.readouterr().out
    assert "no: ImportError" in said
    assert "--load" not in said
