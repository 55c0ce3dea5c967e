"""The command line: `agclip COMMAND`, one file per command, which `command/` has the parts of.

A new command is a file that ends in `COMMAND = Command(...)` and a place in `COMMANDS`.
"""

from __future__ import annotations

import io
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import NoReturn

import agclip
from agclip import _checks
from agclip.cli import backends, check, config
from agclip.cli.bench import bench
from agclip.cli.command import FAILED, OK, USAGE, Command, CommandError
from agclip.cli.command.output import why
from agclip.cli.command.signals import TerminatedError, ending
from agclip.cli.demo import demo
from agclip.cli.files import clip, norms
from agclip.cli.logs import plot, suggest

__all__ = ["COMMANDS", "main"]

COMMANDS: tuple[Command, ...] = (
    backends.COMMAND,
    check.COMMAND,
    clip.COMMAND,
    norms.COMMAND,
    suggest.COMMAND,
    plot.COMMAND,
    config.COMMAND,
    bench.COMMAND,
    demo.COMMAND,
)

# What a shell reports for a process that a signal ended: 128 + the signal, which is 2 for Ctrl-C.
SIGNALLED = 128
INTERRUPTED = SIGNALLED + 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process when `None`.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 ended by
        SIGTERM.
    """
    parser = _parser()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The names in a file need not be text that a terminal has signs for.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args, unknown = parser.parse_known_args(argv)
        if unknown:
            _refuse(args.parser, unknown)
    except SystemExit as stop:  # argparse ends the process after --help and on wrong usage
        return stop.code if isinstance(stop.code, int) else OK
    command: Command | None = args.command
    if command is None:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        with ending():
            _run(command, args)
            sys.stdout.flush()
    except CommandError as error:
        print(f"agclip {command.name}: error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"agclip {command.name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except TerminatedError as ended:
        print(f"agclip {command.name}: ended by {ended}", file=sys.stderr)
        return SIGNALLED + ended.number
    except BrokenPipeError:  # whoever reads, as `head` does, has seen enough
        _finish_output()
    except OSError as error:  # a command explains those of its files
        _finish_output()
        what = repr(error.filename) if error.filename else "standard output"
        print(f"agclip {command.name}: error: {what}: {why(error)}.", file=sys.stderr)
        return FAILED
    return OK


def _finish_output() -> None:
    """Write the rest of the output, or keep the interpreter from trying as it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(command: Command, args: Namespace) -> None:
    """Run a command on arrays of any library, whatever the settings say of that.

    Raises:
        CommandError: A setting is wrong, or the command failed.
    """
    try:
        args.settings = agclip.get_config()
    except (TypeError, ValueError, OSError) as error:
        raise CommandError(str(error), USAGE) from error
    with agclip.config_context(backend="auto"):
        command.run(args)


class _Parser(ArgumentParser):
    """A parser whose complaint is one line, in the words of every other error."""

    def error(self, message: str) -> NoReturn:
        """Print the complaint and end with the status of a wrong usage."""
        wrong = re.fullmatch(r"argument (?:\S+/)?(\S+): (must .*)", message, re.DOTALL)
        choice = re.match(r"argument COMMAND: invalid choice: (.*?) \(choose from", message)
        if choice:
            names = [command.name for command in COMMANDS]
            hint = _checks.hint(choice[1].strip("'"), names)
            text = f"`COMMAND` must be one of {', '.join(names)}; got {choice[1]}.{hint}"
        elif wrong:
            text = f"`{wrong[1]}` {wrong[2]}" + "." * (not wrong[2].endswith("?"))
        else:
            stop = "" if message.endswith("?") else "."
            text = f"{message}{stop} `{self.prog} --help` shows what there is."
        self.exit(USAGE, f"{self.prog}: error: {text}\n")


def _refuse(parser: ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    """Refuse arguments that a parser does not know; what looks like an option may be a slip."""
    options = re.findall(r"--[a-z][a-z-]*", parser.format_help())
    hint = next((_checks.hint(word, options) for word in unknown if word.startswith("-")), "")
    parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint and '.'}{hint}")


def _parser() -> ArgumentParser:
    """Build the parser with one sub-parser for each command."""
    parser = _Parser(prog="agclip", description="Gradient clipping for every array library.")
    parser.add_argument("--version", action="version", version=f"agclip {agclip.__version__}")
    parser.set_defaults(command=None, parser=parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        sub = subparsers.add_parser(
            command.name, help=command.summary, description=command.summary, allow_abbrev=False
        )
        command.configure(sub)
        sub.add_argument("--json", action="store_true", help="print JSON, and nothing else")
        sub.set_defaults(command=command, parser=sub)
    return parser
