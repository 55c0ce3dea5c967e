"""A progress bar on standard error: rich on a terminal, else a line for every tenth."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from agclip.cli._train import Report


@contextmanager
def progress(label: str, total: int, *, quiet: bool) -> Iterator[Report]:
    """Show how far a run has come.

    Args:
        label: What is running.
        total: Number of steps.
        quiet: Show nothing.

    Yields:
        The function to call after every step.
    """
    if quiet:
        yield _silent
    elif sys.stderr.isatty() and find_spec("rich") is not None:
        with _bar(label, total) as report:
            yield report
    else:
        yield _lines(label, total)


def _silent(step: int, loss: float, norm: float) -> None:
    """Show nothing."""


def _lines(label: str, total: int) -> Report:
    """Print one line for every tenth of the steps."""

    def report(step: int, loss: float, norm: float) -> None:
        if step * 10 // total > (step - 1) * 10 // total:
            place = f"{step * 100 // total:3d} %, step {step}/{total}"
            print(f"{label}: {place}, {_numbers(loss, norm)}", file=sys.stderr, flush=True)

    return report


@contextmanager
def _bar(label: str, total: int) -> Iterator[Report]:
    """Draw a bar with the time left, the loss and the norm."""
    from rich import progress as parts
    from rich.console import Console

    columns = (
        parts.TextColumn("{task.description}"),
        parts.BarColumn(),
        parts.MofNCompleteColumn(),
        parts.TimeRemainingColumn(),
        parts.TextColumn("{task.fields[numbers]}"),
    )
    with parts.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, numbers="")

        def report(step: int, loss: float, norm: float) -> None:
            bar.update(task, completed=step, numbers=_numbers(loss, norm))

        yield report


def _numbers(loss: float, norm: float) -> str:
    """Write the two numbers that tell how a run is doing."""
    return f"loss {loss:.2f} nats, gradient norm {norm:.3g}"
