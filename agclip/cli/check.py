"""`agclip check`: versions, and every clip once on each backend: what a report of a bug needs."""

from __future__ import annotations

import platform
from argparse import ArgumentParser, Namespace
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import agclip
from agclip.cli._arguments import add_backend, backend_of
from agclip.cli._command import Command, CommandError
from agclip.cli._json import print_json
from agclip.cli._tables import print_table
from agclip.cli._trials import Trial, trials

COMPANIONS = (
    "array-api-compat", "matplotlib", "ml_dtypes", "rich", "safetensors", "tensorboard",
)  # fmt: skip
"""Distributions that agclip works with, besides the backends."""


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
    rows = [row for row in agclip.backends() if args.backend in (None, row.name)]
    found = [Checked(row, trials(row.name) if row.usable else []) for row in rows]
    if args.json:
        print_json(_document(found))
    else:
        _print(found)
    failed = [row for row in found if row.failed]
    if failed:
        names = ", ".join(row.info.name for row in failed)
        count = sum(len(row.failed) for row in failed)
        msg = f"wrong clips: {count}, with {names}. Please report that, with what is above."
        raise CommandError(msg)


def versions() -> dict[str, str]:
    """Return what runs here."""
    found = {
        "agclip": agclip.__version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for name in COMPANIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _print(found: list[Checked]) -> None:
    print_table(("what", "version"), list(versions().items()), left=(0, 1))
    rows = [(row.info.name, row.info.version or "–", _result(row)) for row in found]
    print_table(("backend", "version", "result"), rows, left=(0, 1, 2))
    for row in found:
        for trial in row.failed:
            print(f"{row.info.name}: {trial.name}: {trial.failure}")


def _result(row: Checked) -> str:
    if not row.info.usable:
        return f"not usable: {row.info.reason}"
    right = len(row.trials) - len(row.failed)
    return f"{right} of {len(row.trials)} clips right"


def _document(found: list[Checked]) -> dict[str, object]:
    return {
        "versions": versions(),
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
