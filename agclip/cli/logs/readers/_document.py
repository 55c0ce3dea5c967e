"""Logs that are one JSON document: rows or columns, at any depth."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from agclip.cli.logs.readers._columns import Columns
from agclip.cli.logs.readers._history import History
from agclip.cli.logs.readers._names import NUMBERS
from agclip.cli.logs.readers._text import DEPTH, as_object, flat, read_lines

_START = re.compile(
    r"""\s*(?: \{ \s*(?:"|\}|$)
           | \[ \s*(?:[\[{"\]]|NaN|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?\s*[,\]]|$) )""",
    re.VERBOSE,
)
_PIECE = re.compile(r"\{[^{}]*\}")
_EVENT = ("wall time", "step", NUMBERS)
"""What the three numbers are that TensorBoard writes for each event of a chart."""


def is_document(start: str) -> bool:
    """Tell whether a text begins as a JSON document that is not one object a line."""
    if not _START.match(start):
        return False
    first, end, rest = start.strip().partition("\n")
    return not (end and rest and as_object(first.strip()) is not None)


def read_document(text: str, column: str | None) -> History:
    """Read the rows of a document; of one that is cut off, the objects that are complete.

    Raises:
        LogError: If it has no norms.
    """
    columns = Columns("JSON", column, "entry")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        for number, piece in enumerate(_PIECE.finditer(text)):
            row = as_object(piece[0])
            if row is not None:
                columns.add(number, row)
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "its nesting"
        columns.skip(where)
        return (
            columns.history() if columns.has_norms() else read_lines(text.splitlines(True), column)
        )
    _Walk(columns).visit(document, "", DEPTH)
    return columns.history()


class _Walk:
    """Finds the rows in a document, and numbers them from 0."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._number = count()

    def visit(self, node: Any, prefix: str, depth: int) -> None:
        """Add the rows that a node holds."""
        if isinstance(node, dict) and depth:
            self._table(node, prefix, depth)
        elif isinstance(node, list) and depth:
            self._list(node, depth)

    def _add(self, row: Mapping[str, Any]) -> None:
        self._columns.add(next(self._number), row)

    def _table(self, node: dict[str, Any], prefix: str, depth: int) -> None:
        """Add an object: a row, columns of the same length, or what holds them."""
        names, data = node.get("columns"), node.get("data")
        if isinstance(names, list) and isinstance(data, list):  # pandas, orient="split"
            for cells in data:
                if isinstance(cells, list):
                    self._add(dict(zip(map(str, names), cells, strict=False)))
            return
        columns = {name: _column(value) for name, value in node.items()}
        lists = {prefix + name: found for name, found in columns.items() if found}
        wanted = {name: found for name, found in lists.items() if self._columns.keeps(name)}
        for length in {len(found) for found in wanted.values()}:
            same = {name: found for name, found in wanted.items() if len(found) == length}
            for cells in zip(*same.values(), strict=True):
                self._add(dict(zip(same, cells, strict=True)))
        plain = {
            prefix + name: value
            for name, value in node.items()
            if not isinstance(value, (dict, list))
        }
        if plain:
            self._add(plain)
        for name, value in node.items():
            if not columns[name]:
                self.visit(value, f"{prefix}{name}/", depth - 1)

    def _list(self, node: Sequence[Any], depth: int) -> None:
        """Add a list of rows, of numbers, or of the events of a chart."""
        for item in node:
            if isinstance(item, dict):
                self._entry(item, depth)
            elif isinstance(item, list):
                if len(item) == len(_EVENT) and not any(isinstance(v, (dict, list)) for v in item):
                    self._add(dict(zip(_EVENT, item, strict=True)))
                else:
                    self.visit(item, "", depth - 1)
            elif not isinstance(item, str):
                self._add({NUMBERS: item})

    def _entry(self, item: dict[str, Any], depth: int) -> None:
        """Add an object of a list: a row with all that is nested in it, or what holds rows."""
        row = flat(item)
        if any(isinstance(value, list) for value in row.values()):
            self.visit(item, "", depth - 1)
        else:
            self._add(row)


def _column(value: Any) -> list[Any]:
    """Return the cells of a column; empty if it is none."""
    if isinstance(value, dict) and value and all(map(str.isdecimal, value)):
        value = list(value.values())  # pandas, orient="columns"
    if isinstance(value, list) and not any(isinstance(cell, (dict, list)) for cell in value):
        return value
    return []
