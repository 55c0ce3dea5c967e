"""`agclip check`: versions, and a few checks of each backend: what a report of a bug needs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import NamedTuple

import agclip
from agclip.cli.command import Command, CommandError
from agclip.cli.command.arguments import add_backend, backend_of, counted, known_backends
from agclip.cli.command.documents import print_json
from agclip.cli.command.tables import print_table
from agclip.config import Settings
from agclip.testing import Outcome, Report
from agclip.testing._quick import quick_check
from agclip.testing._surroundings import changed, kernels, notes, threads, versions


class Checked(NamedTuple):
    """How a backend did: its report, or None if it cannot be used."""

    info: agclip.BackendInfo
    report: Report | None

    def of(self, status: str) -> list[Outcome]:
        """Return the outcomes of a status."""
        outcomes = self.report.outcomes if self.report else ()
        return [outcome for outcome in outcomes if outcome.status == status]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip check`."""
    add_backend(parser, "every one")


def run(args: Namespace) -> None:
    """Check the backends and print how each did; fail if one is wrong."""
    if args.backend is not None:
        backend_of(args, args.backend)
    rows = [row for row in known_backends() if args.backend in (None, row.name)]
    found = [Checked(row, quick_check(row.name) if row.usable else None) for row in rows]
    if args.json:
        print_json(_document(found, args.settings))
    else:
        _print(found, args.settings)
    failed = [row for row in found if row.of("failed")]
    if failed:
        names = ", ".join(row.info.name for row in failed)
        checks = counted(sum(len(row.of("failed")) for row in failed), "check", "checks")
        msg = f"{checks} failed, with {names}. Please report that, with what is above."
        raise CommandError(msg)


def _print(found: list[Checked], settings: Settings) -> None:
    here = versions() | {"kernels": kernels(settings), "threads": threads(settings)}
    here |= {f"setting {key}": said for key, said in changed(settings).items()}
    print_table(("what", "version"), list(here.items()), left=(0, 1))
    rows = [(row.info.name, row.info.version or "–", _result(row)) for row in found]
    print_table(("backend", "version", "result"), rows, left=(0, 1, 2))
    for row in found:
        if row.of("failed") or row.of("warned"):
            print(f"{row.report}\n")
    for note in notes():
        print(f"Note: {note}")
    print("Skipped is what a library gives no occasion for, as writing in place.")
    print("These are a few of the checks; `python -m agclip.testing` runs them all.")
    reports = [row.report for row in found if row.report is not None]
    if not reports:
        print("Nothing was checked: no backend can be used.")
    elif all(report.ok for report in reports):
        print(f"No check failed with {', '.join(report.library for report in reports)}.")


def _result(row: Checked) -> str:
    if row.report is None:
        return f"not usable: {row.info.reason}"
    return str(row.report.counts)


def _document(found: list[Checked], settings: Settings) -> dict[str, object]:
    return {
        "versions": versions(),
        "kernels": kernels(settings),
        "threads": threads(settings),
        "settings": changed(settings),
        "notes": notes(),
        "backends": [
            {
                "name": row.info.name,
                "version": row.info.version,
                "usable": row.info.usable,
                "reason": row.info.reason,
                "checks": row.report and row.report.counts._asdict(),
                "failures": _details(row.of("failed")),
                "warnings": _details(row.of("warned")),
            }
            for row in found
        ],
    }


def _details(outcomes: Iterable[Outcome]) -> dict[str, str]:
    return {outcome.name: outcome.detail for outcome in outcomes}


COMMAND = Command(
    name="check",
    summary="Print versions and check what every clip gives on each backend; fail if one is wrong.",
    configure=configure,
    run=run,
)
