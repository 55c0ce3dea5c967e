"""`--config FILE`: the clipper that a file describes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import agclip
from agclip.cli.command import USAGE, CommandError
from agclip.cli.files.named import require_file
from agclip.cli.files.rules import MEMORY
from agclip.rules.from_table import RULES


def add_config(parser: ArgumentParser, where: str) -> None:
    """Add `--config FILE`."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"agclip.toml with a table [clip]: use its clipper for {where}",
    )


def clipper_of(args: Namespace, *excluded: str) -> agclip.Clipper | None:
    """Build the clipper of `--config`; None if it was not given.

    Args:
        args: The arguments.
        excluded: Those that the file decides, and that must therefore be left out.

    Raises:
        CommandError: The file is not there or not right, or one of `excluded` was given.
    """
    if args.config is None:
        return None
    given = [name for name in excluded if getattr(args, name) is not None]
    if given:
        option = "--" + given[0].replace("_", "-")
        msg = f"`{option}` must be left out with --config; got both. The file decides."
        raise CommandError(msg, USAGE)
    return clipper_in(args.config, "--config")


def learners_in(rule: Any) -> list[str]:
    """Return the names of the rules with memory in a rule."""
    memory = tuple(RULES[name] for name in MEMORY)
    return list(
        dict.fromkeys(type(one).__name__ for one in _members(rule) if isinstance(one, memory))
    )


def compares(rule: Any) -> bool:
    """Tell whether a rule asks for the parameters."""
    return any(isinstance(one, agclip.AdaptiveGradClip) for one in _members(rule))


def _members(rule: Any) -> Iterator[Any]:
    """Yield the rules that a chain or groups are made of, at any depth; else the rule."""
    inner: Iterable[Any] = ()
    if isinstance(rule, agclip.Chain):
        inner = rule.rules
    elif isinstance(rule, agclip.PerGroup):
        inner = [member for _, member in tuple(rule.groups)]
    else:
        yield rule
    for member in inner:
        yield from _members(member)


def clipper_in(path: Path, argument: str, status: int = USAGE) -> agclip.Clipper:
    """Build the clipper that a file describes.

    Args:
        path: The file.
        argument: The argument that named it.
        status: Exit status for a file that is not right.

    Raises:
        CommandError: The file is not there or not right.
    """
    require_file(path, argument)
    try:
        return agclip.Clipper.from_config(path)
    except (TypeError, ValueError) as error:
        msg = f"`{argument}` must describe a clipper: {error}"
        raise CommandError(msg, status) from error
    except (ImportError, RuntimeError, OSError) as error:
        msg = f"`{argument}` cannot be used: {error}"
        raise CommandError(msg) from error
