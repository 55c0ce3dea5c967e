"""Logs with a row a line under a header: CSV, and what resembles it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from agclip.cli.logs.readers._columns import Columns, number_of
from agclip.cli.logs.readers._history import History
from agclip.cli.logs.readers._names import NUMBERS, may_be_norm, step_rank

Split = Callable[[str], Sequence[str]]
"""Takes a line, and returns its cells."""

_LOOKED_AT = 20
"""Rows after the header that say whether it is one."""
_SENTENCE = re.compile(r"[{}=]|:\s*$")
"""What a cell of a printed line has, and the name of a column has not."""
_DECIMAL_COMMA = re.compile(r"\s*-?\d+,\d+(?:[eE][-+]?\d+)?\s*")


def table_of(start: str, column: str | None) -> Split | None:
    """Return how the lines of a table are split; None if a text is no table.

    Args:
        start: The first lines.
        column: The column of the norms; None to find it.
    """
    lines = list(islice(filter(_is_row, start.splitlines()), _LOOKED_AT + 1))
    for comma in (",", ";", "\t", "|", None):
        split = _split_by(comma)
        head, *rows = [split(line) for line in lines] or [[]]
        if comma in ("|", None) and any(_SENTENCE.search(cell) for cell in head):
            continue
        known = any(name == column or _is_known(name) for name in map(_bare, head))
        if _names_rows(head, rows, known) and (known or comma not in ("|", None)):
            return split
    numeric = [number_of(line) is not None for line in lines]
    return _split_by(",") if numeric and all(numeric) else None


def _is_known(name: str) -> bool:
    return may_be_norm(name) or step_rank(name) is not None or name.lower() == NUMBERS


def _names_rows(head: Sequence[str], rows: Sequence[Sequence[str]], known: bool) -> bool:
    """Tell whether cells are names of those of the rows below."""
    if any(number_of(cell) is not None for cell in head):
        return False
    fitting = [row for row in rows if len(row) == len(head)]
    numeric = [row for row in fitting if any(number_of(cell) is not None for cell in row)]
    return 3 * len(numeric) >= len(rows) if rows and numeric else known and not rows


def read_table(lines: Iterable[str], split: Split, column: str | None) -> History:
    """Read a table; its first line names the columns, and later ones may name them anew.

    Raises:
        LogError: If it has no norms.
    """
    columns = Columns("a table", column)
    names: list[str] = []
    wanted: dict[int, str] = {}
    first, last = 0, -1
    for number, line in enumerate(lines, start=1):
        if not _is_row(line):
            continue
        cells = split(line.strip("\r\n\0"))
        if not names or number_of(cells[0]) is None:
            header = _header(cells, names)
            if header:
                names = header
                wanted = {place: name for place, name in enumerate(names) if columns.keeps(name)}
                last = max(wanted, default=-1)
                if number_of(cells[0]) is None:
                    continue
        first = first or number
        beyond = len(names) <= len(cells) > last + 1
        if last < len(cells) and (beyond or line.endswith("\n") or number == first):
            columns.add(number, {name: cells[place] for place, name in wanted.items()})
        else:  # without an end a line may be cut off within its last cell
            columns.skip(f"line {number}")
    return columns.history()


def _header(cells: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names of the columns if a line tells them, the first always; else nothing."""
    if not names:
        if number_of(cells[0]) is None:
            return list(map(_bare, cells))
        return [NUMBERS] if len(cells) == 1 else [str(place) for place, _ in enumerate(cells, 1)]
    bare = list(map(_bare, cells))
    again = not {*names}.isdisjoint(bare) and all(number_of(cell) is None for cell in cells)
    return bare if again else []


def _is_row(line: str) -> bool:
    """Tell whether a line is neither blank nor a comment."""
    return not line.isspace() and line[:1] not in ("#", "\0", "")


def _bare(cell: str) -> str:
    return cell.strip().strip("\"'").strip()


def _split_by(comma: str | None) -> Split:
    """Return what splits a line: at a character, or at white space."""
    if comma is None:
        return str.split

    def split(line: str) -> Sequence[str]:
        if '"' in line:
            try:
                cells = next(csv.reader([line], delimiter=comma), [])
            except csv.Error:
                return [line]
        else:
            cells = line.split(comma)
        if comma == ";" and "," in line:
            cells = [c.replace(",", ".") if _DECIMAL_COMMA.fullmatch(c) else c for c in cells]
        return cells

    return split
