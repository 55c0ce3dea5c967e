"""Parametrisations of which `make test` runs a few, and `make test-all` every one."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

import pytest


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
