"""The columns of a log that may hold norms or steps, filled row by row."""

from __future__ import annotations

import math
import operator
import re
from array import array
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from agclip.cli.logs.readers import _names
from agclip.cli.logs.readers._history import History, LogError

OVERFLOW = -1.0
"""What DeepSpeed logs in the place of a norm that is not finite."""

_LARGEST = 2.0**53
"""Steps up to here are told apart in float64, and by an axis."""

_WRAPPED = re.compile(r"\s*[A-Za-z_][\w.]*\(\s*([-+]?[\w.]+(?:[-+]\d+)?)")
"""A number as its class prints it, such as tensor(1.9)."""
_OF = re.compile(r"\s*(\d+)\s*/\s*\d+\s*")
"""A step of so many, such as 3/100."""


class Column:
    """The numbers of a column, and the rows that have them."""

    def __init__(self, *, step: bool = False) -> None:
        self.step = step
        self.rows = array("q")
        self.numbers = array("d")
        self.wrong = 0
        self.example = ""


class Columns:
    """The rows of a log; of each only the columns that may be wanted are kept.

    Args:
        form: What the log is read as.
        column: The column of the norms; None to find it.
        unit: What a row is called in messages.
    """

    def __init__(self, form: str, column: str | None, unit: str = "line") -> None:
        self.form = form
        self.unread = 0
        self.unread_at = ""
        self._column = column
        self._unit = unit
        self._row = -1
        self._columns: dict[str, Column | None] = {}

    def keeps(self, name: str) -> bool:
        """Tell whether the values of a column may be wanted, and remember its name."""
        if name not in self._columns:
            step = _names.step_rank(name) is not None
            norm = _names.may_be_norm(name) if self._column is None else name == self._column
            number = self._column is None and name.lower() == _names.NUMBERS
            self._columns[name] = Column(step=step) if step or norm or number else None
        return self._columns[name] is not None

    def add(self, place: int, row: Mapping[str, Any]) -> None:
        """Add a row.

        Args:
            place: Where it stands, for messages.
            row: Its values by column.
        """
        self._row += 1
        known = self._columns
        for name, value in row.items():
            if name not in known:
                self.keeps(name)
            column = known[name]
            if column is None:
                continue
            # What most rows of a long log hold: nothing else needs to be asked.
            if (type(value) is float or type(value) is int) and 0 <= value < _LARGEST:
                column.rows.append(self._row)
                column.numbers.append(value)
                continue
            if value is None or value == "":
                continue  # a row of something else, such as an evaluation, has no norm
            found = number_of(value, step=column.step)
            if found is None:
                column.wrong += 1
            else:
                column.rows.append(self._row)
                column.numbers.append(found)
            if (found is None or found < 0) and not column.example and found != OVERFLOW:
                column.example = self._example(place, value)

    def skip(self, where: str) -> None:
        """Count a row that cannot be read."""
        self.unread += 1
        self.unread_at = self.unread_at or where

    def _example(self, place: int, value: Any) -> str:
        shown = repr(value)
        return f"{self._unit} {place} has {shown if len(shown) <= 60 else shown[:59] + '…'}"

    def has_norms(self) -> bool:
        """Tell whether any column that may be the norms holds a number."""
        return any(
            column is not None and len(column.numbers) and _names.step_rank(name) is None
            for name, column in self._columns.items()
        )

    def history(self) -> History:
        """Return the norms.

        Raises:
            LogError: There are none, or it is not clear which they are.
        """
        counts = {
            name: 0 if column is None else len(column.numbers)
            for name, column in self._columns.items()
            if _names.step_rank(name) is None or name == self._column
        }
        name = _names.chosen(counts, self._column)
        column = self._columns[name] or Column()
        negative = sum(number < 0 and number != OVERFLOW for number in column.numbers)
        overflows = column.numbers.count(OVERFLOW)
        right = len(column.numbers) - negative - overflows
        wrong = column.wrong + negative
        if wrong > right:
            msg = f"{_names.listed([name])} must hold norms, which are >= 0; {column.example}"
            raise LogError(msg)
        counter, logged, restarts = self._steps(column.rows)
        found = _split(column.numbers, logged)
        if not found[1]:
            left_out = f": all {len(found[2])} are NaN or infinite" if found[2] else ""
            msg = f"{_names.listed([name])} in it has no finite value{left_out}"
            raise LogError(msg)
        others = [n for n, count in counts.items() if count and n != name]
        return History(
            self.form,
            name,
            counter,
            *found,
            overflows=overflows,
            wrong=wrong,
            example=column.example,
            unread=self.unread,
            unread_at=self.unread_at,
            others=tuple(others),
            restarts=restarts,
        )

    def _steps(self, rows: array[int]) -> tuple[str | None, Sequence[float] | None, int]:
        """Return the name of the steps, the step of each row, and how often they went back.

        Only steps that every row has, and that never go back, are taken; an epoch must grow, as
        many rows may have the same.
        """
        ranked = [(_names.step_rank(name), name.count("/"), name) for name in self._columns]
        restarts = 0
        for rank, _, name in sorted((r, d, n) for r, d, n in ranked if r is not None):
            column = self._columns[name]
            if column is None or name == self._column or not len(column.numbers):
                continue
            steps = _at(rows, column)
            if not all(-_LARGEST < step < _LARGEST for step in steps):
                continue
            later = islice(steps, 1, None)
            back = sum(map(operator.lt, later, steps))
            still = rank == len(_names.STEPS) - 1 and len({*steps}) < len(steps)
            if not back and not still:
                return name, steps, 0
            restarts = restarts or back
        return None, None, restarts


def _at(rows: array[int], column: Column) -> Sequence[float]:
    """Return the numbers of a column in some rows; NaN where there is none."""
    if rows == column.rows:
        return column.numbers
    by_row = dict(zip(column.rows, column.numbers, strict=True))
    return [by_row.get(row, math.nan) for row in rows]


def _split(
    numbers: Sequence[float], steps: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[tuple[int, float], ...]]:
    """Return the steps and values of the finite norms, and the places of the others."""
    if all(map(math.isfinite, numbers)) and min(numbers, default=0.0) >= 0:
        counted = range(1, len(numbers) + 1) if steps is None else steps
        return tuple(map(float, counted)), tuple(numbers), ()
    at: list[float] = []
    norms: list[float] = []
    gaps: list[tuple[int, float]] = []
    count = 0
    for place, number in enumerate(numbers):
        if number < 0 and number != OVERFLOW:
            continue
        count += 1
        step = float(count) if steps is None else steps[place]
        if number >= 0 and number < math.inf:
            at.append(step)
            norms.append(number)
        else:
            gaps.append((len(norms), step))
    return tuple(at), tuple(norms), tuple(gaps)


def number_of(value: Any, *, step: bool = False) -> float | None:
    """Return what a cell holds as a number; None if it is none. A step may be one of so many."""
    kind = value.__class__
    if kind is float:
        plain: float = value
        return plain
    if kind is bool:
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        pass
    if kind is not str:
        return None
    found = _OF.fullmatch(value) if step else _WRAPPED.match(value)
    try:
        return None if found is None else float(found[1])
    except ValueError:
        return None
