"""Write the table of what each backend has, from the backends' records.

    python docs/capabilities.py

A column is made of the record, and of `COMPILERS`, which a test tries one by one. So its library
has to be installed, but needs no device. Where it is not installed the column stays as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from agclip import Backend
from agclip_backends import BACKENDS

TABLE = Path(__file__).parent / "_tables" / "capabilities.md"
YES, NO = "yes", "–"

Compiler = Callable[[Any, Callable[..., Any]], Callable[..., Any]]
"""`(library, function of an array)` → what its compiler makes of the function."""

COMPILERS: dict[str, dict[str, Compiler]] = {
    # The backend spares a C++ compiler; what is traced is the same.
    "torch": {"compile": lambda torch, f: torch.compile(f, backend="eager", fullgraph=True)},
    "jax": {"jit": lambda jax, f: jax.jit(f)},
    "tensorflow": {
        "function": lambda tf, f: tf.function(f),
        "XLA": lambda tf, f: tf.function(f, jit_compile=True),
    },
    "mlx": {"compile": lambda mlx, f: mlx.core.compile(f)},
}
"""The compilers of each library that a call may be a part of."""


def replaced(field: str) -> Callable[[Backend], str]:
    """Return what tells whether a field of a record is the library's own."""
    (default,) = (f.default for f in fields(Backend) if f.name == field)
    return lambda record: YES if getattr(record, field) is not default else NO


def dtypes(*names: str) -> Callable[[Backend], str]:
    """Return what tells which dtypes the namespace of a record has."""

    def found(record: Backend) -> str:
        there = [name for name in names if getattr(record.xp, name, None) is not None]
        return YES if there == [*names] else ", ".join(there) or NO

    return found


def in_place(record: Backend) -> str:
    """Tell whether there are arrays that can be overwritten: a library without refuses anything."""
    try:
        return NO if isinstance(record.unwritable(None), str) else YES
    except AttributeError:  # it looks at the array
        return YES


def jit(record: Backend) -> str:
    """Name the compilers that a call may be a part of."""
    return ", ".join(COMPILERS.get(record.name, ())) or NO


def streams(record: Backend) -> str:
    """Tell whether there are streams: kernels of agclip's own, and calls, go to the current one."""
    own = {replaced("fused")(record), replaced("at")(record)}
    return "current" if YES in own else NO


ROWS: dict[str, Callable[[Backend], str]] = {
    "in place": in_place,
    "float64": dtypes("float64"),
    "half types": dtypes("float16", "bfloat16"),
    "complex": dtypes("complex64", "complex128"),
    "jit": jit,
    "streams": streams,
    "`run`": replaced("run"),
    "`sum_squares`": replaced("sum_squares"),
    "`scale`": replaced("scale"),
    "`fused`": replaced("fused"),
    "`at`": replaced("at"),
    "`named_device`": replaced("named_device"),
    "`sparse`": replaced("sparse"),
    "`parts`": replaced("parts"),
    "`all_reduce`": replaced("all_reduce"),
}


def record_of(name: str) -> Backend:
    """Return the record of a backend; an ImportError if its library is not installed."""
    module, _, attribute = BACKENDS[name].partition(":")
    record: Backend = getattr(import_module(module), attribute)
    return record


def column(name: str) -> list[str]:
    """Return the cells of a backend."""
    record = record_of(name)
    return [cell(record) for cell in ROWS.values()]


def written() -> dict[str, list[str]]:
    """Return the columns that are written down, by backend."""
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {cells[0]: list(cells[2:]) for cells in zip(*rows, strict=True)}


def table(columns: dict[str, list[str]]) -> str:
    """Return the table."""
    rows = zip(ROWS, *columns.values(), strict=True)
    lines = [["", *columns], ["---"] * (len(columns) + 1), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    """Write the table anew."""
    before, columns = written(), {}
    for name in BACKENDS:
        try:
            columns[name] = column(name)
        except ImportError as error:
            print(f"The column of {name} stays as it is: {error}", file=sys.stderr)
            columns[name] = before[name]
    TABLE.write_text(table(columns), encoding="utf-8")


if __name__ == "__main__":
    main()
