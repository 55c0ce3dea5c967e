"""What callers pass as `replicas`: on how many ranks each leaf is held."""

from __future__ import annotations

import difflib
import fnmatch
import math
import numbers
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from agclip._checks import count, describe
from agclip._trees import paths
from agclip._trees.leaves import Leaves

_MUST = (
    "an integer >= 0, a dict of patterns of paths, a function (path, leaf) that returns an "
    'integer, "auto", or None'
)
_PRIMES = 2 * 3 * 5 * 7 * 11 * 13


def of_leaves(leaves: Leaves, replicas: Any) -> tuple[int, ...] | None:
    """Return on how many ranks each leaf is held; None for one each.

    Raises:
        TypeError: If `replicas`, or a number in it, is of a wrong kind.
        ValueError: If a number is negative, or a pattern fits no leaf.
    """
    if unsaid(replicas):
        return None
    arrays = [] if leaves.stand_in else leaves.arrays  # what stands in for leaves has no path
    if isinstance(replicas, numbers.Integral):
        count("replicas", replicas)
        return (int(replicas),) * len(arrays)
    names = paths.dotted(leaves.structure) if arrays else []
    if isinstance(replicas, Mapping):
        return _matched(replicas, names)
    if not callable(replicas) or isinstance(replicas, type):
        msg = f"`replicas` must be {_MUST}; got {describe(replicas)}."
        raise TypeError(msg)
    found = []
    for name, leaf in zip(names, arrays, strict=True):
        number: Any = replicas(name, leaf)
        count(f"replicas({name!r}, leaf)", number)
        found.append(int(number))
    return tuple(found)


def unsaid(replicas: Any) -> bool:
    """Tell whether nothing is said: each leaf is held once, or its type tells."""
    return replicas is None or (isinstance(replicas, str) and replicas == "auto")


def _matched(replicas: Mapping[Any, Any], names: Sequence[str]) -> tuple[int, ...]:
    """Return the number of the first pattern that fits each path, or one."""
    for pattern, number in replicas.items():
        if not isinstance(pattern, str):
            msg = f"`replicas` must have strings for keys; got {pattern!r}."
            raise TypeError(msg)
        count(f"replicas[{pattern!r}]", number)
    found, idle = [], dict.fromkeys(replicas)
    for name in names:
        fits = [pattern for pattern in replicas if fnmatch.fnmatchcase(name, pattern)]
        found.append(int(replicas[fits[0]]) if fits else 1)
        for pattern in fits:
            idle.pop(pattern, None)
    if idle and names:
        pattern = next(iter(idle))
        close = difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)
        msg = (
            f"`replicas` must have patterns that fit a leaf; got {pattern!r}, which fits none. A "
            f"path here is {close[0]!r}."
        )
        raise ValueError(msg)
    return tuple(found)


def held(leaves: Leaves, replicas: tuple[int, ...] | None) -> float:
    """Return Σ h / replicas over the leaves that more ranks hold, modulo one.

    h is an integer that follows from the path, and has no small divisor: the ranks that hold a leaf
    add up to a multiple of h if their number is one of `replicas`, and to no whole number if not.
    """
    if replicas is None or not any(number > 1 for number in replicas):
        return 0.0
    total = Fraction(0)
    for name, number in zip(paths.dotted(leaves.structure), replicas, strict=True):
        if number > 1:
            total += Fraction(_weight(name), number)
    return float(total % 1)


def _weight(path: str) -> int:
    weight = hashed(path) % _PRIMES
    while math.gcd(weight, _PRIMES) > 1:
        weight += 1
    return weight


def hashed(text: str) -> int:
    """Return a number for a text, the same in every process and in compiled code."""
    found = 0
    for character in text:
        found = (found * 131 + ord(character)) % 2147483647
    return found
