"""The table of what each backend has says what the records say."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import agclip
import arrays
from agclip_backends import BACKENDS

DOCS = Path(__file__).parents[1] / "docs"
TABLE = (DOCS / "_tables" / "capabilities.md").read_text(encoding="utf-8")


SPEC = importlib.util.spec_from_file_location("capabilities", DOCS / "capabilities.py")
MODULE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)
CASES = [(name, compiler) for name, there in MODULE.COMPILERS.items() for compiler in there]


@pytest.fixture
def capabilities():
    return MODULE


def test_there_is_a_column_for_each_backend_and_no_other(capabilities):
    columns = capabilities.written()
    assert [*columns] == ["", *BACKENDS]
    assert columns.pop("") == [*capabilities.ROWS]
    assert capabilities.table(columns) == TABLE


@pytest.mark.parametrize("name", BACKENDS)
def test_the_column_of_a_backend_is_what_its_record_says(name, capabilities):
    try:
        wanted = capabilities.column(name)
    except ImportError as error:
        pytest.skip(f"the library is not installed: {error}")
    assert capabilities.written()[name] == wanted


def test_the_page_describes_each_row(capabilities):
    page = (DOCS / "capabilities.md").read_text(encoding="utf-8")
    described = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    assert [name for name in capabilities.ROWS if name not in described] == []


def test_what_may_be_written_in_place_is_what_the_matrix_writes(capabilities):
    told = {name for name in BACKENDS if name in arrays.LIBRARIES}
    told = {name for name in told if importlib.util.find_spec(name)}
    able = {name for name in told if capabilities.in_place(capabilities.record_of(name)) == "yes"}
    assert able == told & set(arrays.WRITABLE)


@pytest.mark.parametrize(("name", "compiler"), CASES)
def test_a_clip_is_a_part_of_what_a_compiler_of_the_table_makes(name, compiler):
    lib = arrays.library(name)
    access = MODULE.record_of(name).access
    seen = set()

    def clip(x):
        if name != "torch":  # there it would be a side effect of the program
            seen.add(access(x))
        return agclip.clip_by_norm(x, 1.0)

    compiled = MODULE.COMPILERS[name][compiler](importlib.import_module(name), clip)
    got = lib.entries(compiled(lib.array([3.0, 4.0])))
    np.testing.assert_allclose(got, [0.6, 0.8], rtol=1e-6)
    assert seen <= {"never", "sync"}, "nothing can be read, or would be by a computation"
