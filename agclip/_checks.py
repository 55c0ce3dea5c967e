"""What a number, a count, a flag, a word and an order are: decided here for every way in.

Functions, rules, settings and the command line check plain Python values with these. An error reads
"`name` must be ...; got ....", unless the value comes from a `Place`, which has a text of its own.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple, NoReturn, Protocol, TypeAlias, TypeGuard

_LONGEST = 240
"""Characters of a word that is compared with others: the comparison takes quadratic time."""


class Place(Protocol):
    """Where a value comes from, if there is more to say than the name of an argument."""

    def error(self, kind: type[Exception], must: str, value: Any, advice: str, /) -> Exception:
        """Return the error to raise where a function would raise one of a kind."""
        ...


At: TypeAlias = str | Place


class Kind(NamedTuple):
    """A kind of number."""

    must: str
    """What it is, in an error."""
    holds: Callable[[Any], Any]
    """Whether a float is one, or a 0-d array."""


FINITE = Kind("a finite number", math.isfinite)
NONNEGATIVE = Kind("a number >= 0", lambda x: x >= 0)
FINITE_NONNEGATIVE = Kind("a finite number >= 0", lambda x: 0 <= x < math.inf)
POSITIVE = Kind("a finite number > 0", lambda x: 0 < x < math.inf)
FRACTION = Kind("a number > 0 and < 1", lambda x: 0 < x < 1)
PERCENTAGE = Kind("a number > 0 and <= 100", lambda x: 0 < x <= 100)
NORM = Kind("a norm, which is >= 0", lambda x: not x < 0)
ORDER = Kind("a number > 0, such as 1, 2 or inf", lambda x: x > 0)

UNBOUNDED = "None for no clipping"
OPTIONAL_FLAG = "True, False, or None for what the settings say"


def refuse(at: At, kind: type[Exception], must: str, value: Any, advice: str = "") -> NoReturn:
    """Raise the error on a value that is not what it must be."""
    if not isinstance(at, str):
        raise at.error(kind, must, value, advice)
    shown = repr(value) if isinstance(value, str) else f"{value}"
    got = describe(value) if kind is TypeError else shown
    msg = f"`{at}` must be {must}; got {got}.{advice}"
    raise kind(msg)


def describe(x: Any) -> str:
    """Name the kind of an object, for an error message."""
    return f"the class {x.__qualname__}" if isinstance(x, type) else type(x).__name__


def either(must: str, none: str) -> str:
    """Return what a value must be if something may stand in its place."""
    return f"{must}, or {none}" if none else must


def is_number(value: Any) -> TypeGuard[numbers.Real]:
    """Tell whether a value is a real number: a bool is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def as_float(value: Any) -> float:
    """Return a real number as a float, infinite beyond the range."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def number(at: At, value: Any, kind: Kind, none: str = "") -> None:
    """Check a number; None is allowed where `none` says what it stands for."""
    if value is None and none:
        return
    if not is_number(value):
        refuse(at, TypeError, either(kind.must, none), value)
    found = as_float(value)
    if not kind.holds(found):
        refuse(at, ValueError, either(kind.must, none), found)


def order(at: At, value: Any) -> float:
    """Return the order of a norm: a number > 0, infinity included, which may be the word "inf"."""
    if isinstance(value, str) and value == "inf":
        return math.inf
    if not is_number(value):
        refuse(at, TypeError, ORDER.must, value)
    found = as_float(value)
    if not ORDER.holds(found):
        refuse(at, ValueError, ORDER.must, value)
    return found


def count(
    at: At,
    value: Any,
    least: int = 0,
    most: int | None = None,
    *,
    none: str = "",
    other: type[Exception] = TypeError,
) -> None:
    """Check an integer within limits; `other` is raised for what is no integer."""
    if value is None and none:
        return
    wanted = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        refuse(at, other, either(wanted, none), value)
    if not least <= int(value) <= (math.inf if most is None else most):
        refuse(at, ValueError, either(wanted, none), value)


def flag(at: At, value: Any, must: str = "True or False") -> None:
    """Check a bool: a word such as "no" would count as True."""
    if not isinstance(value, bool):
        refuse(at, TypeError, must, value)


def choice(
    at: At,
    value: Any,
    words: Collection[str],
    *,
    quote: str = '"',
    other: type[Exception] = ValueError,
) -> None:
    """Check one of some words; `other` is raised for what is no word."""
    if not isinstance(value, str) or value not in words:
        listed = ", ".join(f"{quote}{word}{quote}" for word in words)
        if not isinstance(value, str):
            refuse(at, other, f"one of {listed}", value)
        refuse(at, ValueError, f"one of {listed}", value, hint(value, words))


def hint(word: Any, known: Iterable[str], prefix: str = "") -> str:
    """Return the question whether something known was meant; empty if nothing is near.

    A prefix that all have is no likeness.
    """
    if len(str(word)) > _LONGEST:
        return ""
    spelt = {name.removeprefix(prefix).lower(): name for name in known}
    close = difflib.get_close_matches(str(word).removeprefix(prefix).lower(), spelt, n=1)
    return f" Did you mean {spelt[close[0]]!r}?" if close else ""
