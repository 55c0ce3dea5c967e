"""`agclip backends`: which array libraries can be used here."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

import agclip
from agclip.cli.command import Command, CommandError
from agclip.cli.command.arguments import backend_of, known_backends
from agclip.cli.command.documents import print_json
from agclip.cli.command.tables import print_table

HEADER = ("backend", "version", "source", "usable")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--load",
        action="store_true",
        help="import every library that is installed, to see whether it can be used: takes seconds",
    )


def run(args: Namespace) -> None:
    """List the backends."""
    rows = known_backends(load=args.load)
    try:
        default, reason = backend_of(args, None).name, ""
    except CommandError as error:
        default, reason = None, str(error)
    if args.json:
        print_json({"default": default, "backends": [asdict(row) for row in rows]})
        return
    table = [(row.name, row.version or "–", row.source, usable(row)) for row in rows]
    print_table(HEADER, table, left=range(len(HEADER)))
    if any(row.usable is None for row in rows):
        print("Those installed are imported, and tried, by `agclip backends --load`.")
    print(f"Default, where no array says otherwise: {default or 'none'}.")
    if reason:
        print(reason)


def usable(row: agclip.BackendInfo) -> str:
    """Say whether a backend can be used, or why it cannot."""
    if row.usable is None:
        return "installed"
    return "yes" if row.usable else f"no: {row.reason}"


COMMAND = Command(
    name="backends",
    summary="List the array libraries that agclip can use here, and why not the others.",
    configure=configure,
    run=run,
)
