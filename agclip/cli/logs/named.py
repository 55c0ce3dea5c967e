"""The log that a user names."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

from agclip.cli.command import USAGE, CommandError
from agclip.cli.command.arguments import counted
from agclip.cli.command.output import why
from agclip.cli.logs.readers import FORMATS, History, LogError, listed, read_log
from agclip.cli.logs.thresholds import clipped_before

STDIN = Path("-")


def add_log(parser: ArgumentParser) -> None:
    """Add the log and what its norms are called."""
    add = parser.add_argument
    add("log", type=Path, metavar="LOG", help=FORMATS)
    add(
        "--column",
        "--tag",
        metavar="NAME",
        help="the column, key or tag of the gradient norms before clipping; found if left out",
    )


def name_of(path: Path) -> str:
    """Return what a log is called in sentences."""
    return "standard input" if path == STDIN else path.name


def history_of(args: Namespace) -> History:
    """Read the log.

    Raises:
        CommandError: It is not there, or holds no norms.
    """
    path: Path = args.log
    if path != STDIN and not path.exists():
        msg = f"`LOG` must be a file; got {str(path)!r}, where there is none. Check the path."
        raise CommandError(msg, USAGE)
    log: Path | BinaryIO = sys.stdin.buffer if path == STDIN else path
    try:
        return read_log(log, args.column)
    except LogError as error:
        msg = f"`LOG` must be a log with gradient norms; got {str(path)!r}: {error}."
        raise CommandError(msg, USAGE) from error
    except OSError as error:
        msg = f"`LOG` must be readable; got {str(path)!r}: {why(error)}."
        raise CommandError(msg) from error


def describe(history: History) -> list[str]:
    """Say what was read, and what was left out."""
    norms = history.norms
    extent = f"from {min(norms):.4g} to {max(norms):.4g}, median {median(norms):.4g}"
    lines = [f"{counted(len(norms), 'norm', 'norms')} in {listed([history.column])}: {extent}."]
    counter = (
        f"the steps are {listed([history.counter])}"
        if history.counter
        else "the norms are numbered"
    )
    again = f", as the steps in the log go back {_times(history.restarts)}"
    lines.append(f"Read as {history.format}; {counter}{again if history.restarts else ''}.")
    lines += _left_out(history)
    zeros = norms.count(0.0)
    if zeros:
        others = " Rates are of the others." if zeros < len(norms) else ""
        lines.append(f"Of norm 0, which no threshold clips: {zeros}.{others}")
    found = clipped_before(norms)
    if found:
        bound, count = found
        lines.append(
            f"{count} of the norms lie at the largest, {bound:.4g}: it looks as if they had been "
            f"clipped to it before they were logged."
        )
    return lines


def _left_out(history: History) -> list[str]:
    lines = []
    if history.nonfinite:
        logged = f", {history.overflows} of them logged as -1" if history.overflows else ""
        lines.append(f"Left out, being NaN or infinite: {history.nonfinite}{logged}.")
    if history.wrong:
        lines.append(f"Left out, being no norms: {history.wrong}; {history.example}.")
    if history.unread:
        lines.append(f"Left out, being cut off or damaged: {history.unread}; {history.unread_at}.")
    if history.others:
        others = listed(history.others)
        lines.append(f"Left out, being other norms: {others}; --column takes one of them.")
    return lines


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def document_of(args: Namespace, history: History) -> Mapping[str, Any]:
    """Return what `describe` says, for JSON."""
    found = clipped_before(history.norms)
    return {
        "log": str(args.log),
        "format": history.format,
        "column": history.column,
        "step_column": history.counter,
        "norms": len(history.norms),
        "nonfinite": history.nonfinite,
        "zeros": history.norms.count(0.0),
        "not_norms": history.wrong,
        "unreadable": history.unread,
        "other_columns": history.others,
        "clipped_before_at": found and found[0],
    }
