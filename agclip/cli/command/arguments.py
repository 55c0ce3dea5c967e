"""Arguments that several commands take: how their text is read, and what is wrong with it."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import agclip
from agclip import _checks
from agclip.cli.command import USAGE, CommandError
from agclip.cli.command.tables import printable

_SHOWN = 3
"""Words that a line lists before it ends in "…"."""


def add_backend(parser: ArgumentParser, otherwise: str = "the default one") -> None:
    """Add `--backend NAME`, and say which is taken if it is left out."""
    told = f"a name that `agclip backends` lists; {otherwise} if left out"
    parser.add_argument("--backend", metavar="NAME", help=told)


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


def known_backends(*, load: bool = True) -> list[agclip.BackendInfo]:
    """List every backend; without `load` nothing is imported to find out whether it works.

    Raises:
        CommandError: Two distributions bring one of the same name.
    """
    try:
        return agclip.backends(load=load)
    except ImportError as error:
        raise CommandError(str(error)) from error


class _Text(NamedTuple):
    """The text of an argument, whose name argparse puts before the error."""

    text: str

    def error(self, _: type[Exception], must: str, __: Any, advice: str) -> Exception:
        """Return the error that argparse shows."""
        return ArgumentTypeError(f"must be {must}; got {self.text!r}{advice and '.'}{advice}")


def _float(text: str) -> Any:
    """Return the number that a text says; the text, which no check lets pass, if it says none."""
    try:
        return float(text)
    except ValueError:
        return text


def _number(kind: _checks.Kind) -> Callable[[str], float]:
    def read(text: str) -> float:
        found: float = _float(text)
        _checks.number(_Text(text), found, kind)
        return found

    return read


positive = _number(_checks.POSITIVE)
bound = _number(_checks.FINITE_NONNEGATIVE)
finite = _number(_checks.FINITE)


def count(text: str) -> int:
    """Read an integer from 1."""
    found = int(text) if text.isdecimal() else 0
    _checks.count(_Text(text), found, 1)
    return found


def order(text: str) -> float:
    """Read the order of a norm."""
    return _checks.order(_Text(text), _float(text))


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return a reader of one of some names, which suggests the nearest for an unknown one."""
    known = sorted(names)

    def read(text: str) -> str:
        _checks.choice(_Text(text), text, known, quote="")
        return text

    return read


def listed(words: Sequence[str], between: str = ", ") -> str:
    """Return the first few of some words."""
    return printable(between.join([*words[:_SHOWN], *["…"] * (len(words) > _SHOWN)]))


def counted(number: int, one: str, many: str) -> str:
    """Return a number with the word for what it counts."""
    return f"{number} {one if number == 1 else many}"
