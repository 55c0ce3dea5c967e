"""A progress bar on standard error: rich on a terminal, else a line for every tenth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeAlias

Report: TypeAlias = Callable[[int, str], None]
"""Called after every step with its number, from 1, and a few words."""


@contextmanager
def progress(label: str, total: int, *, quiet: bool, bar_only: bool = False) -> Iterator[Report]:
    """Show how far a run has come.

    Args:
        label: What is running.
        total: Number of steps.
        quiet: Show nothing.
        bar_only: Show nothing where there is no bar.

    Yields:
        The function to call after every step.
    """
    if quiet:
        yield _silent
    elif sys.stderr.isatty() and find_spec("rich") is not None:
        with _bar(label, total, transient=bar_only) as report:
            yield report
    else:
        yield _silent if bar_only else _lines(label, total)


def _silent(step: int, words: str) -> None:
    """Show nothing."""


def _lines(label: str, total: int) -> Report:
    """Print one line for every tenth of the steps."""

    def report(step: int, words: str) -> None:
        if step * 10 // total > (step - 1) * 10 // total:
            place = f"{step * 100 // total:3d} %, step {step}/{total}"
            print(f"{label}: {place}, {words}", file=sys.stderr, flush=True)

    return report


@contextmanager
def _bar(label: str, total: int, *, transient: bool) -> Iterator[Report]:
    """Draw a bar with the time left and the words; one that is transient does not stay."""
    from rich import progress as parts
    from rich.console import Console

    columns = (
        parts.TextColumn("{task.description}"),
        parts.BarColumn(),
        parts.MofNCompleteColumn(),
        parts.TimeRemainingColumn(),
        parts.TextColumn("{task.fields[words]}"),
    )
    with parts.Progress(*columns, console=Console(stderr=True), transient=transient) as bar:
        task = bar.add_task(label, total=total, words="")

        def report(step: int, words: str) -> None:
            bar.update(task, completed=step, words=words)

        yield report
