"""Parameters, and what holds them, in the place of gradients: the library says what to pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agclip._backends import registry
from agclip._backends.questions import Misplaced


def among(candidates: Iterable[Any]) -> Misplaced | None:
    """Return what a library says of the first object that holds parameters, no array perhaps."""
    for x in candidates:
        owner = registry.resolve(x) or registry.owner_of(type(x))
        said = None if owner is None else owner.misplaced([x], {type(x)})
        if said is not None and said.wrong:
            return said
    return None
