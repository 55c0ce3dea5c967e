"""Parametrisations of which `make test` runs a few, and `make test-all` every one."""

from __future__ import annotations

import itertools
import zlib
from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from typing import Any

import pytest

import arrays


def thinned(
    values: Iterable[Any],
    keep: Container[Any] | Callable[[Any], bool],
    ids: Callable[[Any], str] | None = None,
    *,
    tuples: bool = False,
) -> list[Any]:
    """Return values as parameters, of which `make test` runs those to keep.

    Args:
        values: What a test or fixture is parametrised by.
        keep: The values to keep, or a function that tells whether to keep one.
        ids: A function that returns the name of a value.
        tuples: Whether each value is a tuple of the values of several parameters.
    """
    kept = keep if callable(keep) else keep.__contains__
    return [
        pytest.param(
            *(value if tuples else (value,)),
            marks=() if kept(value) else pytest.mark.whole,
            id=None if ids is None else ids(value),
        )
        for value in values
    ]


def with_libraries(
    argument: str, names: Iterable[str], compiled: Container[str]
) -> pytest.MarkDecorator:
    """Parametrise the fixture `lib` and another one by all pairs, of which some are thinned.

    Args:
        argument: The other fixture.
        names: What it is parametrised by.
        compiled: The names with which `make test` runs JAX, which compiles a program for each.
    """
    cells = thinned(
        itertools.product(arrays.LIBRARIES, names),
        lambda cell: cell[0] != "jax" or cell[1] in compiled,
        ids=lambda cell: "-".join(cell).replace(" ", "-"),
        tuples=True,
    )
    return pytest.mark.parametrize(("lib", argument), cells, indirect=True)


PROGRAMS = {"jax": 6, "dask": 2}
"""Libraries that build a program for each call, and on how many cells of a test `make test` runs
them: the conformance suite, which chooses its checks, aside."""


def mark_programs(items: Iterable[pytest.Item]) -> None:
    """Mark the cells on such libraries as `whole`, but for a few that are drawn by their names."""
    cells: dict[tuple[str, str], list[pytest.Item]] = defaultdict(list)
    for item in items:
        name = _program(getattr(item, "callspec", None))
        if name is not None and not item.get_closest_marker("whole"):
            cells[item.nodeid.partition("[")[0], name].append(item)
    for (_, name), found in cells.items():
        drawn = sorted(found, key=lambda item: zlib.crc32(item.nodeid.encode()))
        for item in drawn[PROGRAMS[name] :]:
            item.add_marker("whole")


def _program(cell: Any) -> str | None:
    """Return which of these libraries a cell is on; None for no such, or of the suite."""
    parameters = {} if cell is None or "check" in cell.params else cell.params
    firsts = [v[0] if isinstance(v, tuple) and v else v for v in parameters.values()]
    return next((name for name in firsts if isinstance(name, str) and name in PROGRAMS), None)
