"""The log that a user names."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from statistics import median

from agclip.cli._command import USAGE, CommandError
from agclip.cli._logs import FORMATS, History, LogError, read_log
from agclip.cli._output import why


def add_log(parser: ArgumentParser) -> None:
    """Add the log and what its norms are called."""
    add = parser.add_argument
    add("log", type=Path, metavar="LOG", help=FORMATS)
    add(
        "--column",
        "--tag",
        metavar="NAME",
        help="the column, key or tag of the gradient norms before clipping (grad_norm)",
    )


def history_of(args: Namespace) -> History:
    """Read the log.

    Raises:
        CommandError: It is not there, or holds no norms.
    """
    path: Path = args.log
    if not path.exists():
        msg = f"`LOG` must be a file; got {str(path)!r}, where there is none. Check the path."
        raise CommandError(msg, USAGE)
    try:
        return read_log(path, args.column)
    except LogError as error:
        msg = f"`LOG` must be a log with gradient norms; got {str(path)!r}: {error}."
        raise CommandError(msg) from error
    except OSError as error:
        msg = f"`LOG` must be readable; got {str(path)!r}: {why(error)}."
        raise CommandError(msg) from error


def describe(history: History) -> list[str]:
    """Say what was read, and what was left out."""
    norms = history.norms
    extent = f"from {min(norms):.4g} to {max(norms):.4g}, median {median(norms):.4g}"
    lines = [f"{len(norms)} norms in {history.column!r}: {extent}."]
    if history.nonfinite:
        lines.append(f"Left out, being NaN or infinite: {history.nonfinite}.")
    return lines
