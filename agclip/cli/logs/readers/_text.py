"""Logs of lines: JSON objects, printed dicts, and text with names and numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agclip.cli.logs.readers._columns import Columns
from agclip.cli.logs.readers._history import History, LogError
from agclip.cli.logs.readers._names import may_be_norm

DEPTH = 32
"""Levels of nesting that are looked into."""

_PAIR = re.compile(
    r"""
    (?<![\w/.\-])                                        # where a word begins
    ((?:(?:total|global|grads?|gradients?)[ ]){0,2}+         # Megatron writes "grad norm"
     [A-Za-z_][\w/.\-]*+)
    ["']?+ (?: \s*+ [:=] \s*+ | \s++ ) ["']?+            # : or = or a space, and quotes
    (?:[A-Za-z_][\w.]*+\(\s*+)?+                         # tensor(1.9)
    ([-+]?(?:\d++(?:\.\d*+)?+(?:e[-+]?\d++)?+|\.\d++(?:e[-+]?\d++)?+|nan|inf(?:inity)?+))
    (?=[\s,;|)}\]"'/])                                   # a number that ends is not cut off
    """,
    re.VERBOSE | re.IGNORECASE,
)
_DECODE = json.JSONDecoder().raw_decode
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def read_lines(lines: Iterable[str], column: str | None) -> History:
    """Read a log of lines.

    Raises:
        LogError: If no line has a norm.
    """
    columns = Columns("text", column)
    wanted = "norm" if column is None else column.lower()
    objects = texts = 0
    for number, line in enumerate(lines, start=1):
        stripped = line.strip(" \t\r\n\0")
        row = as_object(stripped) if stripped.startswith("{") else None
        if row is not None:
            objects += 1
            columns.add(number, flat(row) if "{" in stripped[1:] else row)
            continue
        named = wanted in stripped.lower()
        found = dict(_PAIR.findall(_COLOUR.sub("", line))) if named else {}
        if named and _has(found, column):
            texts += 1
            columns.add(number, found)
        elif stripped.startswith("{") and not stripped.endswith("}"):
            columns.skip(f"line {number}")
    columns.form = "JSON lines" if objects > texts else "text"
    if not objects and not texts:
        raise LogError(_nothing(column))
    return columns.history()


def _has(found: Mapping[str, str], column: str | None) -> bool:
    return any(map(may_be_norm, found)) if column is None else column in found


def _nothing(column: str | None) -> str:
    if column is None:
        return (
            "no line of it holds a gradient norm, such as `grad_norm: 1.5`, and it is neither JSON "
            "nor a table with a header; if the norms have another name, give it with --column"
        )
    return f"no line of it holds a number called {column!r}, such as `{column}: 1.5`"


def as_object(text: str) -> dict[str, Any] | None:
    """Return a JSON object, nothing around it; None if it is none."""
    try:
        row, end = _DECODE(text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and end == len(text) else None


def flat(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row whose nested values stand beside the others, as outer/inner."""
    nested = dict in map(type, row.values())
    return dict(_flat(row, "", DEPTH)) if nested else row


def _flat(row: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if not isinstance(value, dict):
            yield prefix + name, value
        elif depth:
            yield from _flat(value, f"{prefix}{name}/", depth - 1)
