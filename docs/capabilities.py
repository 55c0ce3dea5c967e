"""Write the table of what each backend has, from the backends' records.

    python docs/capabilities.py

A row is made of the record, and of `COMPILERS`, which a test tries one by one. So its library has
to be installed, but needs no device. Where it is not installed the row stays as it is.
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
    "torch": {
        "`torch.compile`": lambda torch, f: torch.compile(f, backend="eager", fullgraph=True)
    },
    "jax": {"`jax.jit`": lambda jax, f: jax.jit(f)},
    "tensorflow": {
        "`tf.function`": lambda tf, f: tf.function(f),
        "XLA": lambda tf, f: tf.function(f, jit_compile=True),
    },
    "mlx": {"`mx.compile`": lambda mlx, f: mlx.core.compile(f)},
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
    return "the current one" if YES in own else NO


COLUMNS: dict[str, Callable[[Backend], str]] = {
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


def row(name: str) -> str:
    """Return the row of a backend."""
    record = record_of(name)
    return f"| {name} | {' | '.join(cell(record) for cell in COLUMNS.values())} |"


def header() -> str:
    """Return the two lines above the rows."""
    return f"| backend | {' | '.join(COLUMNS)} |\n|{' --- |' * (len(COLUMNS) + 1)}"


def main() -> None:
    """Write the table anew."""
    before = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
    kept = {line.split()[1]: line for line in before if line.startswith("| ")}
    lines = [header()]
    for name in BACKENDS:
        try:
            lines.append(row(name))
        except ImportError as error:
            print(f"The row of {name} stays as it is: {error}", file=sys.stderr)
            lines += [kept[name]] if name in kept else []
    TABLE.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
