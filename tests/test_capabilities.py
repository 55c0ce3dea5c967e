"""The table of what each backend has says what the records say."""

import importlib.util
from pathlib import Path

import pytest

from agclip_backends import BACKENDS

DOCS = Path(__file__).parents[1] / "docs"
LINES = (DOCS / "_tables" / "capabilities.md").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def capabilities():
    spec = importlib.util.spec_from_file_location("capabilities", DOCS / "capabilities.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_row_for_each_backend_and_no_other(capabilities):
    assert "\n".join(LINES[:2]) == capabilities.header()
    assert [line.split()[1] for line in LINES[2:]] == list(BACKENDS)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_row_of_a_backend_is_what_its_record_says(name, capabilities):
    try:
        wanted = capabilities.row(name)
    except ImportError as error:
        pytest.skip(f"the library is not installed: {error}")
    assert wanted in LINES


def test_the_page_describes_each_column(capabilities):
    page = (DOCS / "capabilities.md").read_text(encoding="utf-8")
    described = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    assert [name for name in capabilities.COLUMNS if name not in described] == []


def test_what_may_be_written_in_place_is_what_the_matrix_writes(capabilities):
    import arrays

    told = {name for name in BACKENDS if name in arrays.LIBRARIES}
    told = {name for name in told if importlib.util.find_spec(name)}
    able = {name for name in told if capabilities.in_place(capabilities.record_of(name)) == "yes"}
    assert able == told & set(arrays.WRITABLE)
