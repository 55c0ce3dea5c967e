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


def configure(_: ArgumentParser) -> None:
    """Add no arguments."""


def run(args: Namespace) -> None:
    """List the backends."""
    rows = known_backends()
    try:
        default, reason = backend_of(args, None).name, ""
    except CommandError as error:
        default, reason = None, str(error)
    if args.json:
        print_json({"default": default, "backends": [asdict(row) for row in rows]})
        return
    table = [(row.name, row.version or "–", row.source, usable(row)) for row in rows]
    print_table(HEADER, table, left=range(len(HEADER)))
    print(f"Default, where no array says otherwise: {default or 'none'}.")
    if reason:
        print(reason)


def usable(row: agclip.BackendInfo) -> str:
    """Say whether a backend can be used, or why it cannot."""
    return "yes" if row.usable else f"no: {row.reason}"


COMMAND = Command(
    name="backends",
    summary="List the array libraries that agclip can use here, and why not the others.",
    configure=configure,
    run=run,
)
