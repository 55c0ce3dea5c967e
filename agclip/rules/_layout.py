"""What the states of rules are made of: names, kinds, shapes, and which values make sense.

A state that was saved is judged by it when it is loaded, before there are gradients to make arrays
like.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from agclip import _checks
from agclip._backends.registry import resolve
from agclip._checks import Kind
from agclip.rules._rule import Rule, State, Steps

JOINED = "joined"
"""The key of the steps in which leaves got their first gradient, if that was not the first step."""

GROWING = "history"
"""The key of an array that grows."""

_MOST = 2**31 - 2
"""The largest count: states count in int32, and count on."""


class Numbers(NamedTuple):
    """Numbers of a state: an array of them, or one."""

    kind: Kind | None
    """None for numbers that are not judged."""
    integer: bool = False
    shape: tuple[int | None, ...] | None = ()
    """None for a length that may be any but 0; None for any shape."""
    start: float = 0.0
    """What a rule begins with."""

    def why_not(self, value: float) -> str | None:
        """Return how a value that cannot be one of these reads in an error; None if it can."""
        fits = self.kind is None or self.kind.holds(_checks.as_float(value))
        return None if fits else _spelt(value)


class ByPath(NamedTuple):
    """Numbers for each leaf, by its path."""

    of: Numbers


Parts: TypeAlias = dict[str, Numbers | ByPath]
"""What the state of a single rule is made of, by name."""

Layout: TypeAlias = Numbers | ByPath | dict[str, Any]
"""Numbers, numbers by path, or layouts by name; None among these for a rule of another's making."""

_STEPS = Kind(f"an integer from 0 to {_MOST}", lambda x: 0 <= x <= _MOST and x % 1 == 0)
COUNT = Numbers(_STEPS, integer=True)
SIZE = Numbers(_checks.FINITE_NONNEGATIVE)
BOUND = Numbers(_checks.POSITIVE)


def layout_of(rule: Rule | None) -> Layout | None:
    """Return what a state of a rule is made of; None for a rule of another's making."""
    if rule is None:
        return {}
    made = getattr(rule, "_layout", None)
    if made is None:
        return {} if isinstance(rule, Steps) else None
    found: Layout = made()
    return found


def grows(rule: Rule) -> bool:
    """Tell whether a part of the state of a rule has another shape after a step."""
    return any(None in (numbers.shape or ()) for numbers in _parts(layout_of(rule)))


def _parts(layout: Layout | None) -> Iterator[Numbers]:
    if isinstance(layout, Numbers):
        yield layout
    elif isinstance(layout, ByPath):
        yield layout.of
    else:
        for part in (layout or {}).values():
            yield from _parts(part)


def holds_arrays(state: State) -> bool:
    """Tell whether a state remembers anything."""
    if isinstance(state, Mapping):
        return any(map(holds_arrays, state.values()))
    if isinstance(state, (tuple, list)):
        return any(map(holds_arrays, state))
    return resolve(state) is not None


def _spelt(value: float) -> str:
    """Return a number as a text; Python refuses to print integers of more than 4300 digits."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    return f"{value}"
