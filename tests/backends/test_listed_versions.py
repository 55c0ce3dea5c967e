"""The version of a library is known before it is imported, whatever its distribution is called."""

import importlib.metadata
import sys
import types

import pytest

import agclip
import agclip_backends
import arrays
from agclip._backends import entry_points, listing

TEXT = "toylib/__init__.py,sha256=x,9"


def listed(name):
    return next(row for row in agclip.backends(load=False) if row.name == name)


@pytest.fixture
def bring(tmp_path):
    """Return a function that installs `toylib` by a distribution of another name."""
    with arrays.registry(tmp_path) as lent:

        def install(files, version="Version: 1.2+cpu"):
            lent.install("agclip-toy", {"toylib": "agclip_toy:backend"}, {"agclip_toy": "1 / 0"})
            lent.install("toylib-cpu", {}, {})
            site = lent.folder / "toylib-cpu"
            (site / "toylib").mkdir()
            (site / "toylib" / "__init__.py").write_text("1 / 0")
            info = next(site.glob("*.dist-info"))
            info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: x\n{version}\n")
            if files is not None:
                info.joinpath("RECORD").write_text("\n".join([*files, ""]))

        yield install


@pytest.mark.parametrize("files", [[TEXT], ["a.py,,", TEXT, "b.py,,"]], ids=["first", "within"])
def test_a_distribution_of_another_name_says_it(bring, files):
    bring(files)
    row = listed("toylib")
    assert (row.version, row.usable) == ("1.2+cpu", None)


OTHERS = {
    "no list of files": None,
    "an empty list": [],
    "a folder of that name within another": [f"other/{TEXT}"],
    "a longer name": [f"my{TEXT}"],
}


@pytest.mark.parametrize("files", OTHERS.values(), ids=OTHERS)
def test_what_others_bring_is_not_taken_for_it(bring, files):
    bring(files)
    assert listed("toylib").version is None


class Damaged:
    """A distribution of which nothing can be read."""

    def read_text(self, _):
        raise OSError


def test_a_damaged_distribution_does_not_break_the_list(bring, monkeypatch):
    bring([TEXT])
    # Its own name for the module: the entry points are looked for by the same function.
    lent = types.SimpleNamespace(
        **vars(importlib.metadata) | {"distributions": lambda: [Damaged()]}
    )
    monkeypatch.setattr(listing, "metadata", lent)
    assert listed("toylib").version is None


@pytest.mark.parametrize("name", agclip_backends.BACKENDS)
def test_every_library_that_is_installed_has_its_version(name, monkeypatch):
    if not entry_points.installed(name):
        pytest.skip(f"{name} is not installed")
    # As before its import.
    monkeypatch.delitem(sys.modules, name, raising=False)
    assert listed(name).version is not None
