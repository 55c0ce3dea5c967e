"""The table of docs/tensorflow.md: each row is run with TensorFlow and with agclip."""

import re
from pathlib import Path

import pytest
import tensorflow_moving as moving

PAGE = Path(__file__).parents[2] / "docs" / "tensorflow.md"
ROW = re.compile(r"^\| `([a-z_]+\(.+\))` \| `(.+)` \| `(.+)` \| (.+) \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE.read_text("utf-8"))


@pytest.fixture(scope="module")
def tf(need_backend):
    need_backend("tensorflow")
    return pytest.importorskip("tensorflow")


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_is_what_the_two_return(tf, row):
    call, theirs, ours, said = row
    assert moving.shown(moving.outcome(call, moving.theirs(tf))) == theirs
    assert moving.shown(moving.outcome(call, moving.ours(tf))) == ours
    assert (theirs == ours) == said.startswith("same")
    assert ours.endswith("Error") or not said.startswith("refused")


def test_the_table_has_every_function(tf):
    calls = {row[0].partition("(")[0] for row in ROWS}
    assert calls == set(moving.theirs(tf))
    assert len(ROWS) > 30
