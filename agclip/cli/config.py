"""`agclip config`: every setting, its value and the place that said it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agclip.cli.command import FAILED, Command, CommandError
from agclip.cli.command.documents import print_json
from agclip.cli.command.output import why
from agclip.cli.command.tables import print_table
from agclip.cli.files.clipper import clipper_in
from agclip.cli.files.named import require_file
from agclip.config._environment import FILE
from agclip.config._files import TABLE, read, search, there
from agclip.config._settings import KEYS, Settings, merged


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip config`."""
    parser.add_argument(
        "--check",
        type=Path,
        metavar="FILE",
        help="show what this file says, and build its clipper; fail if anything is wrong with it",
    )


def run(args: Namespace) -> None:
    """Print the settings in force, or those of a file."""
    settings: Settings = args.settings
    clipper = None
    if args.check is not None:
        require_file(args.check, "--check")
        settings = _settings_in(args.check)
        if settings.clip:
            clipper = clipper_in(args.check, "--check", FAILED)
    rows = {key: (getattr(settings, key), settings.source(key)) for key in KEYS}
    places = [] if args.check is not None else _places()
    if args.json:
        document = {
            key: {"value": value, "source": source} for key, (value, source) in rows.items()
        }
        files = [{"path": str(path), "found": found} for path, found in places]
        made = clipper and repr(clipper.rule)
        print_json({"settings": document, "files": files, "clipper": made})
        return
    table = [(key, shown(value), source) for key, (value, source) in rows.items()]
    print_table(("setting", "value", "source"), table, left=(0, 1, 2))
    if args.check is None:
        _print_places(places)
        return
    if clipper is not None:
        print(f"The clipper: {clipper.rule!r}")
    print(f"{args.check}: nothing is wrong.")


def _places() -> list[tuple[Path, str]]:
    """Return where a file of settings was looked for, and what was found there."""
    return [(path, _found(path, layer is not None)) for path, layer in search()]


def _found(path: Path, read: bool) -> str:
    if read:
        return "read"
    return f"no table [{TABLE}]" if there(path.is_file) else "no file"


def _print_places(places: list[tuple[Path, str]]) -> None:
    if not places:
        print(f"No file is looked for: {FILE} says so.")
        return
    table = [(str(path), found) for path, found in places]
    print_table(("looked for", "found"), table, left=(0, 1))
    print("Where none is found so, a program looks beside its script too.")


def _settings_in(path: Path) -> Settings:
    """Return what one file says."""
    try:
        return merged(read(path))
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        msg = f"`--check` must be readable; got {str(path)!r}: {why(error)}."
        raise CommandError(msg) from error


def shown(value: Any) -> str:
    """Write a value as a file of settings would."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {shown(part)}" for key, part in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(shown, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


COMMAND = Command(
    name="config",
    summary="Show every setting, its value and where it comes from; check a file of settings.",
    configure=configure,
    run=run,
)
