"""Tables: with rich on a terminal, else as aligned columns."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

Row = Sequence[str]


def print_table(header: Row, rows: Sequence[Row], left: Sequence[int] = (0,)) -> None:
    """Print a table to standard output.

    Args:
        header: The names of the columns.
        rows: One text for each column.
        left: The columns that hold words, and so start at the left.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and find_spec("rich") is not None:
        _print_rich(header, rows, left)
    else:
        _print_plain([header, *rows], left)


def printable(text: str) -> str:
    """Return a text with escapes for what would break a line or move the cursor."""
    signs = (sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    return text if text.isprintable() else "".join(signs)


def _print_plain(table: Sequence[Row], left: Sequence[int]) -> None:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print()


def _print_rich(header: Row, rows: Sequence[Row], left: Sequence[int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for place, name in enumerate(header):
        words = place in left
        # Words may take several lines, numbers never.
        side: Literal["left", "right"] = "left" if words else "right"
        table.add_column(Text(name), justify=side, no_wrap=not words, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
