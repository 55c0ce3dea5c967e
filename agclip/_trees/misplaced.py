"""Parameters, and what holds them, in the place of gradients: the library says what to pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from agclip._backends import registry


class Misplaced(NamedTuple):
    """What `Backend.misplaced` has found among leaves."""

    position: int
    found: str
    """What it is, with an article."""
    instead: str
    """A sentence on what to pass."""
    wrong: bool
    """Whether nothing else can be meant; otherwise only one norm of all leaves is worth a word."""


def among(candidates: Iterable[Any]) -> Misplaced | None:
    """Return what a library says of the first object that holds parameters, no array perhaps."""
    for x in candidates:
        owner = registry.resolve(x) or registry.owner_of(type(x))
        said: Misplaced | None = None if owner is None else owner.misplaced([x], {type(x)})
        if said is not None and said.wrong:
            return said
    return None
