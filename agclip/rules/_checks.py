"""The numbers a rule is made with: checked when it is made, as far as they can be read.

Thresholds may be arrays, traced ones too: these are checked where they are used.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

from agclip._backends.registry import resolve
from agclip._clipping import arguments
from agclip._trees.tree import describe


def real(name: str, value: Any, wanted: str, *, arrays: bool = True) -> float | None:
    """Return a number as a float; None for an array, which is checked where it is used.

    Raises:
        TypeError: If the value is neither.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if arrays and resolve(value) is not None:
        return None
    msg = f"`{name}` must be {wanted}; got {describe(value)}."
    raise TypeError(msg)


def bound(name: str, value: Any, none: str = "no clipping") -> None:
    """Check a bound: a number >= 0, or None, which stands for `none`."""
    if value is None:
        return
    wanted = f"a number >= 0, or None for {none}"
    number = real(name, value, wanted)
    if number is not None and not number >= 0:
        msg = f"`{name}` must be {wanted}; got {number}."
        raise ValueError(msg)


def positive(name: str, value: Any, none: str = "") -> None:
    """Check a finite number > 0; None is allowed where `none` says so."""
    wanted = "a finite number > 0" + (f", or {none}" if none else "")
    if value is None and none:
        return
    number = real(name, value, wanted, arrays=bool(none))
    if number is not None and not 0 < number < math.inf:
        msg = f"`{name}` must be {wanted}; got {number}."
        raise ValueError(msg)


def number(name: str, value: Any) -> None:
    """Check a bound that is no array: a number >= 0, or None."""
    if value is not None:
        real(name, value, "a number >= 0, or None for no clipping", arrays=False)
        bound(name, value)


def fraction(
    name: str, value: Any, low: float = 0.0, high: float = 1.0, *, last: bool = False
) -> None:
    """Check a number between two others, the upper one included with `last`."""
    plain = isinstance(value, numbers.Real) and not isinstance(value, bool)
    limited: Any = value
    if plain and (low < limited < high or (last and value == high)):
        return
    # Made here alone: torch.compile cannot put a symbol of a number into a text.
    wanted = f"a number > {low:g} and {'<=' if last else '<'} {high:g}"
    number = real(name, value, wanted, arrays=False)
    msg = f"`{name}` must be {wanted}; got {number}."
    raise ValueError(msg)


def count(name: str, value: Any, least: int = 0, none: str = "") -> None:
    """Check a number of steps; None is allowed where `none` says so."""
    if value is None and none:
        return
    wanted = f"an integer >= {least}" + (f", or {none}" if none else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        msg = f"`{name}` must be {wanted}; got {describe(value)}."
        raise TypeError(msg)
    if value < least:
        msg = f"`{name}` must be {wanted}; got {value}."
        raise ValueError(msg)


def flag(name: str, value: Any) -> None:
    """Check a bool; None is allowed."""
    arguments.flag(name, value)


def switch(name: str, value: Any) -> None:
    """Check a bool."""
    if not isinstance(value, bool):
        msg = f"`{name}` must be True or False; got {describe(value)}."
        raise TypeError(msg)
