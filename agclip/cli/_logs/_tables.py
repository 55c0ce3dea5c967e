"""Logs with a row a step: CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json

from agclip.cli._logs._columns import History, LogError, history


def read_csv(text: str, column: str | None) -> History:
    """Read a table whose first line names the columns; tabs or semicolons may part them too."""
    first = text.lstrip().partition("\n")[0]
    comma = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text.lstrip()), delimiter=comma)
    try:
        rows = [(f"line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        msg = f"it is no table: line {reader.line_num}: {error}"
        raise LogError(msg) from error
    # Cells beyond the header stand under None.
    named = [(place, {k: v for k, v in row.items() if k is not None}) for place, row in rows]
    return history(named or [("line 1", dict.fromkeys(reader.fieldnames or []))], column)


def read_jsonl(text: str, column: str | None) -> History:
    """Read one JSON object a line."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            msg = f"line {number} is no JSON ({error.msg})"
            raise LogError(msg) from error
        if not isinstance(row, dict):
            msg = f'line {number} must be a JSON object, as {{"grad_norm": 1.5}}'
            raise LogError(msg)
        rows.append((f"line {number}", row))
    return history(rows, column)
