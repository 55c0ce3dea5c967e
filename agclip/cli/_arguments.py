"""Arguments that several commands take: how their text is read, and what is wrong with it."""

from __future__ import annotations

import difflib
import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import agclip
from agclip.cli._command import USAGE, CommandError
from agclip.cli._tables import printable

_SHOWN = 3
"""Words that a line lists before it ends in "…"."""


def add_backend(parser: ArgumentParser) -> None:
    """Add `--backend NAME`."""
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help="a name that `agclip backends` lists; the default one if left out",
    )


def backend_of(args: Namespace, name: str | None) -> agclip.Backend:
    """Look a backend up; the core's message says what is wrong with it.

    Args:
        args: The arguments, which hold the settings.
        name: What was asked for; None for what the settings say.

    Raises:
        CommandError: There is no such backend, or it cannot be used here.
    """
    try:
        if name is not None:
            return agclip.get_backend(name)
        with agclip.config_context(backend=args.settings.backend):
            return agclip.get_backend()
    except ValueError as error:
        text = str(error).replace("`name`", "`--backend`", 1)
        text = text.replace("agclip.backends() lists", "`agclip backends` lists")
        raise CommandError(text, USAGE) from error
    except (ImportError, RuntimeError) as error:
        # Who said it was another than the context above.
        text = str(error).replace("(config_context)", f"({args.settings.source('backend')})")
        raise CommandError(text) from error


def known_backends() -> list[agclip.BackendInfo]:
    """List every backend.

    Raises:
        CommandError: Two distributions bring one of the same name.
    """
    try:
        return agclip.backends()
    except ImportError as error:
        raise CommandError(str(error)) from error


def count(text: str) -> int:
    """Read a whole number from 1."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        msg = f"must be a whole number from 1; got {text!r}"
        raise ArgumentTypeError(msg)
    return number


def positive(text: str) -> float:
    """Read a finite number above 0."""
    number = _float(text)
    if not 0 < number < math.inf:
        msg = f"must be a finite number above 0; got {text!r}"
        raise ArgumentTypeError(msg)
    return number


def bound(text: str) -> float:
    """Read a finite number that is not below 0."""
    number = _float(text)
    if not 0 <= number < math.inf:
        msg = f"must be a finite number >= 0; got {text!r}"
        raise ArgumentTypeError(msg)
    return number


def finite(text: str) -> float:
    """Read a finite number."""
    number = _float(text)
    if not math.isfinite(number):
        msg = f"must be a finite number; got {text!r}"
        raise ArgumentTypeError(msg)
    return number


def order(text: str) -> float:
    """Read the order of a norm."""
    number = _float(text)
    if not number > 0:
        msg = f"must be a number above 0, such as 1, 2 or inf; got {text!r}"
        raise ArgumentTypeError(msg)
    return number


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return a reader of one of some names, which suggests the nearest for an unknown one."""
    known = sorted(names)

    def read(text: str) -> str:
        if text not in known:
            hint = meant(text, known)
            msg = f"must be one of {', '.join(known)}; got {text!r}{hint and '.'}{hint}"
            raise ArgumentTypeError(msg)
        return text

    return read


def meant(text: str, known: Iterable[str]) -> str:
    """Return the question whether something known was meant; empty if nothing is near."""
    close = difflib.get_close_matches(text, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def listed(words: Sequence[str], between: str = ", ") -> str:
    """Return the first few of some words."""
    return printable(between.join([*words[:_SHOWN], *["…"] * (len(words) > _SHOWN)]))


def counted(number: int, one: str, many: str) -> str:
    """Return a number with the word for what it counts."""
    return f"{number} {one if number == 1 else many}"


def png(text: str) -> Path:
    """Read the path of a PNG file."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        msg = f"must end in .png; got {text!r}"
        raise ArgumentTypeError(msg)
    return path
