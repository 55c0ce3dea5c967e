"""What a command is: a name, its arguments and what it does."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass

OK = 0
FAILED = 1
USAGE = 2


class CommandError(Exception):
    """A mistake the user can mend: printed as one line, without a traceback.

    Args:
        message: What went wrong and what to do.
        status: Exit status of the process: `FAILED` or `USAGE`.
    """

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Command:
    """One sub-command of `agclip`.

    Attributes:
        name: The word after `agclip`.
        summary: One line for `agclip --help`.
        configure: Adds the command's arguments to its parser.
        run: Does the work with the arguments that `configure` added, and `args.settings`; prints
            what came of it, and raises `CommandError` for whatever the user can mend.
    """

    name: str
    summary: str
    configure: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]
