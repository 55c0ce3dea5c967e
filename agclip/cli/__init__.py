"""The command line: `agclip COMMAND`, one file per command.

A new command is a file that ends in `COMMAND = Command(...)` and a place in `COMMANDS`.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

import agclip
from agclip.cli import demo
from agclip.cli._command import OK, USAGE, Command, CommandError

__all__ = ["COMMANDS", "main"]

COMMANDS: tuple[Command, ...] = (demo.COMMAND,)

# What a shell reports for a process that Ctrl-C ended: 128 + SIGINT.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process when `None`.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C.
    """
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse ends the process after --help and on wrong usage
        return stop.code if isinstance(stop.code, int) else OK
    command: Command | None = args.command
    if command is None:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        command.run(args)
    except CommandError as error:
        print(f"agclip {command.name}: error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"agclip {command.name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return OK


def _parser() -> ArgumentParser:
    """Build the parser with one sub-parser for each command."""
    parser = ArgumentParser(prog="agclip", description="Gradient clipping for every array library.")
    parser.add_argument("--version", action="version", version=f"agclip {agclip.__version__}")
    parser.set_defaults(command=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        sub = subparsers.add_parser(command.name, help=command.summary, description=command.summary)
        command.configure(sub)
        sub.set_defaults(command=command)
    return parser
