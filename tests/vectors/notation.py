"""How the golden vectors are written down; `agclip.testing` reads the same notation."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from oracle.functions import ExactComplex, Tensor, round_to
from vectors.case import COMPONENT, INTEGERS, Array

BITS = 96
"""Bits written of a result that is no short binary fraction."""


def encode(x: Any) -> Any:
    """Write down an argument."""
    if isinstance(x, Array):
        values = [_hex(v) for v in x.tensor.values]
        return {"dtype": x.dtype, "shape": list(x.tensor.shape), "values": values}
    return {"float": _hex(x)} if isinstance(x, float) else over_tree(x, encode)


def _hex(value: Any) -> Any:
    if isinstance(value, complex):
        return [_hex(value.real), _hex(value.imag)]
    return re.sub(r"\.?0+p", "p", value.hex()) if isinstance(value, float) else value


def over_tree(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Write down a container, with a function for what stands in it."""
    if isinstance(tree, list):
        return [function(item) for item in tree]
    if isinstance(tree, tuple):
        return {"tuple": [function(item) for item in tree]}
    if isinstance(tree, dict):
        return {"dict": [[key, function(item)] for key, item in tree.items()]}
    return tree


def leaves_of(tree: Any) -> Iterator[Array]:
    """Yield the arrays of a tree."""
    if isinstance(tree, Array):
        yield tree
    elif tree is not None:
        for child in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves_of(child)


def with_results(tree: Any, results: list[Any]) -> Any:
    """Write down a tree with results in the places of its arrays."""
    remaining = iter(results)

    def place(x: Any) -> Any:
        return next(remaining) if isinstance(x, Array) else over_tree(x, place)

    return place(tree)


def result(leaf: Array, exact: Tensor, tolerance: dict[str, float]) -> Any:
    """Write down a result; what the oracle left unchanged must be bit-identical."""
    unchanged = list(map(_plain, exact.values)) == list(map(_plain, leaf.tensor.values))
    return {
        "dtype": leaf.dtype,
        "shape": list(exact.shape),
        "values": [_entry(value, leaf) for value in exact.values],
        "ulps": 0 if unchanged else tolerance.get(leaf.component, 0),
    }


def _parts(value: Any) -> list[Any]:
    if isinstance(value, (complex, ExactComplex)):
        return [value.real, value.imag]
    return [value]


def _plain(value: Any) -> list[Any]:
    """Return a number in a form that compares alike, whether it came in or is a result."""
    return [repr(float(p)) if _special(p) else Fraction(p) for p in _parts(value)]


def _special(part: Any) -> bool:
    return part == 0 or (isinstance(part, float) and not math.isfinite(part))


def _entry(value: Any, leaf: Array) -> Any:
    if leaf.dtype in INTEGERS:
        return int(value)
    written = [_exact(part, leaf.component) for part in _parts(value)]
    return written if leaf.dtype in COMPONENT else written[0]


def _exact(q: Any, dtype: str) -> str:
    """Write an exact number as an integer times a power of two; infinite if it is out of range."""
    if q == 0:
        return _hex(float(q))
    rounded = round_to(q, dtype)
    if not math.isfinite(rounded):
        return repr(rounded)
    q = Fraction(q)
    shift = max(0, BITS - (q.numerator.bit_length() - q.denominator.bit_length()))
    scaled = round(q * Fraction(2) ** shift)
    while scaled % 16 == 0 and shift >= 4:
        scaled, shift = scaled // 16, shift - 4
    return f"{scaled:#x}p{-shift}"
