"""`agclip check`: versions, and every clip once on each backend: what a report of a bug needs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import NamedTuple

import agclip
from agclip.cli._arguments import add_backend, backend_of, known_backends
from agclip.cli._command import Command, CommandError
from agclip.cli._json import print_json
from agclip.cli._tables import print_table
from agclip.cli.check.trials import Trial, trials
from agclip.config import Settings
from agclip.testing._surroundings import changed, kernels, versions


class Checked(NamedTuple):
    """How a backend did."""

    info: agclip.BackendInfo
    trials: list[Trial]

    @property
    def failed(self) -> list[Trial]:
        """The trials that failed."""
        return [trial for trial in self.trials if trial.failure]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip check`."""
    add_backend(parser)


def run(args: Namespace) -> None:
    """Try the backends and print how each did.

    Args:
        args: The arguments that `configure` adds.

    Raises:
        CommandError: A clip was wrong, or the backend that was asked for cannot be used.
    """
    if args.backend is not None:
        backend_of(args, args.backend)
    rows = [row for row in known_backends() if args.backend in (None, row.name)]
    found = [Checked(row, _tried(row)) for row in rows]
    if args.json:
        print_json(_document(found, args.settings))
    else:
        _print(found, args.settings)
    failed = [row for row in found if row.failed]
    if failed:
        names = ", ".join(row.info.name for row in failed)
        count = sum(len(row.failed) for row in failed)
        msg = f"wrong clips: {count}, with {names}. Please report that, with what is above."
        raise CommandError(msg)


def _tried(row: agclip.BackendInfo) -> list[Trial]:
    if not row.usable:
        return []
    try:
        return trials(row.name)
    except Exception as error:  # noqa: BLE001 - the others are tried whatever it raises
        return [Trial("making arrays", f"{type(error).__name__}: {error}")]


def _print(found: list[Checked], settings: Settings) -> None:
    here = versions() | {"kernels": kernels(settings)}
    here |= {f"setting {key}": said for key, said in changed(settings).items()}
    print_table(("what", "version"), list(here.items()), left=(0, 1))
    rows = [(row.info.name, row.info.version or "–", _result(row)) for row in found]
    print_table(("backend", "version", "result"), rows, left=(0, 1, 2))
    for row in found:
        for failure in dict.fromkeys(trial.failure for trial in row.failed):
            names = ", ".join(trial.name for trial in row.failed if trial.failure == failure)
            print(f"{row.info.name}: {names}: {failure}")


def _result(row: Checked) -> str:
    if not row.info.usable:
        return f"not usable: {row.info.reason}"
    right = len(row.trials) - len(row.failed)
    return f"{right} of {len(row.trials)} clips right"


def _document(found: list[Checked], settings: Settings) -> dict[str, object]:
    return {
        "versions": versions(),
        "kernels": kernels(settings),
        "settings": changed(settings),
        "backends": [
            {
                "name": row.info.name,
                "version": row.info.version,
                "usable": row.info.usable,
                "reason": row.info.reason,
                "clips": len(row.trials),
                "failures": {trial.name: trial.failure for trial in row.failed},
            }
            for row in found
        ],
    }


COMMAND = Command(
    name="check",
    summary="Print versions and try every clip on each backend; fail if one is wrong.",
    configure=configure,
    run=run,
)
