"""The properties on a few fixed draws: for a report that needs nothing but the library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, TypeVar

from agclip.testing.checks.properties import LAWS
from agclip.testing.harness.check import Check
from agclip.testing.harness.draws import Source
from agclip.testing.harness.library import Library

T = TypeVar("T")

DRAWS = 8


class Property(NamedTuple):
    """A law by its name, its sentence, and the function that checks it on one draw."""

    name: str
    about: str
    law: Callable[[Library, Source], None]


PROPERTIES = tuple(
    Property(law.__name__.replace("_", " "), (law.__doc__ or "").partition("\n")[0], law)
    for law in LAWS
)


class Seeded:
    """Draws that are the same in every run."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)

    def integer(self, low: int, high: int) -> int:
        """Return an integer from low to high."""
        return self._random.randint(low, high)

    def choice(self, options: Sequence[T]) -> T:
        """Return one of several options."""
        return self._random.choice(options)


def checks() -> list[Check]:
    """Return each property as a check of its own."""
    return [_check(item) for item in PROPERTIES]


def _check(item: Property) -> Check:
    def run(library: Library) -> None:
        source = Seeded(item.name)
        for _ in range(DRAWS):
            item.law(library, source)

    return Check(f"property {item.name}", item.about, run)
