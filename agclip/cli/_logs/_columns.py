"""The rows of a log: which column holds the norms, and what they are."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NORM = "grad_norm"
STEPS = ("step", "global_step", "_step", "Step", "trainer/global_step")
"""What the number of the step is called."""

_PARTS = ("__MIN", "__MAX")
"""How the columns of a W&B export end that hold the range of a smoothed curve."""


class LogError(Exception):
    """A log that cannot be read; the message is a clause without a dot."""


@dataclass(frozen=True, slots=True)
class History:
    """The finite gradient norms of a run, in order.

    Attributes:
        column: What they are called in the log.
        steps: The step of each norm: as logged, else its place in the log from 1.
        norms: The norms; all finite.
        nonfinite: Number of NaN and infinite norms, which are left out.
    """

    column: str
    steps: tuple[float, ...]
    norms: tuple[float, ...]
    nonfinite: int


def history(rows: Sequence[tuple[str, Mapping[str, Any]]], column: str | None) -> History:
    """Return the norms of the rows that have one.

    Args:
        rows: For each row, what to call it in a message, and its values by column.
        column: The column of the norms; None to find it.

    Raises:
        LogError: If there is no such column, or a value is no norm.
    """
    named = dict.fromkeys(name for _, row in rows for name in row)
    names = [name for name in named if name not in STEPS]
    column = _found(names, column)
    steps, norms, nonfinite = [], [], 0
    for place, row in rows:
        if row.get(column) in (None, ""):
            continue  # a row of something else, such as an evaluation
        norm = _number(row[column], column, place)
        if not math.isfinite(norm):
            nonfinite += 1
            continue
        norms.append(norm)
        steps.append(_step(row, len(norms) + nonfinite))
    return checked(History(column, tuple(steps), tuple(norms), nonfinite))


def checked(found: History) -> History:
    """Return a history with at least one norm.

    Raises:
        LogError: If it has none.
    """
    if not found.norms:
        left_out = f": all {found.nonfinite} are NaN or infinite" if found.nonfinite else ""
        msg = f"{found.column!r} in it has no finite value{left_out}"
        raise LogError(msg)
    return found


def _found(names: Sequence[str], column: str | None) -> str:
    """Return the column of the norms."""
    if column is not None:
        if column in names:
            return column
        close = difflib.get_close_matches(column, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f" but {_listed(names)}"
        msg = f"it has no column {column!r}{hint}"
        raise LogError(msg)
    if NORM in names:
        return NORM
    fitting = [name for name in names if _may_be_norm(name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        msg = f"it has several columns of norms: {_listed(fitting)}; choose one with --column"
        raise LogError(msg)
    msg = f"it has no column {NORM!r} but {_listed(names)}; name it with --column"
    raise LogError(msg)


def _may_be_norm(name: str) -> bool:
    lower = name.lower()
    return "grad" in lower and "norm" in lower and not name.endswith(_PARTS)


def _listed(names: Sequence[str]) -> str:
    most = 8
    listed = ", ".join(repr(name) for name in names[:most]) or "none"
    return f"{listed} and {len(names) - most} more" if len(names) > most else listed


def _number(value: Any, column: str, place: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
        wrong = isinstance(value, bool)
    except (TypeError, ValueError):
        number, wrong = math.nan, True
    if wrong or number < 0:
        msg = f"{column!r} must hold norms, which are >= 0; {place} has {value!r}"
        raise LogError(msg)
    return number


def _step(row: Mapping[str, Any], place: int) -> float:
    """Return the step that a row names; else the place of its norm."""
    for name in STEPS:
        try:
            step = float(row[name])
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(step):
            return step
    return float(place)
