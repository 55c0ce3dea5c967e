"""The tables of the rules' pages give the defaults that the rules have."""

import dataclasses
import re
from pathlib import Path

import pytest

from agclip.rules.from_table import RULES

PAGES = Path(__file__).parents[2] / "docs" / "rules"
ROW = re.compile(r"^\| (?:\S+ \| )?`(\w+)`(?: \||,) (.*) \|$", re.MULTILINE)
"""A row that begins with an argument, or with its symbol before it."""
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?!\w)")


def told():
    """Every row of a page on an argument with a number for a default, and that number."""
    for name, rule in RULES.items():
        rows = dict(ROW.findall(PAGES.joinpath(f"{name}.md").read_text(encoding="utf-8")))
        for field in dataclasses.fields(rule):
            number = isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
            if number and field.name in rows:
                yield pytest.param(rows[field.name], field.default, id=f"{name}-{field.name}")


CASES = list(told())


@pytest.mark.parametrize(("cell", "default"), CASES)
def test_a_default_is_the_first_number_of_its_row(cell, default):
    assert float(NUMBER.findall(cell)[0]) == default


def test_the_rows_are_found():
    assert len(CASES) >= 14
