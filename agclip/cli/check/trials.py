"""Every clip once on a backend, against the reference: small, so that it is quick."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

import agclip
from agclip._typing import Array
from agclip.cli.check import reference
from agclip.cli.check.reference import Leaf
from agclip.testing._library import Library

SHAPES = ((6, 4), (5,), ())
WIDTH = 4
TOLERANCE = 2.0**-21
"""Of the largest entry: a few roundings of float32, far less than any mistake."""


class Trial(NamedTuple):
    """How one clip went.

    Attributes:
        name: What was tried.
        failure: What was wrong; empty if nothing was.
    """

    name: str
    failure: str


class _Case(NamedTuple):
    name: str
    call: Callable[[], Any]
    wanted: list[Leaf]


def trials(backend: str) -> list[Trial]:
    """Try every clip on a backend that can be used."""
    library = Library(backend)
    return [_tried(library, case) for case in _cases(library)]


def _tried(library: Library, case: _Case) -> Trial:
    try:
        got = [library.numbers(array) for array in case.call()]
    except Exception as error:  # noqa: BLE001 - whatever a library raises is what is to be told
        return Trial(case.name, f"{type(error).__name__}: {error}")
    return Trial(case.name, _difference(got, case.wanted))


def _difference(got: Sequence[Leaf], wanted: Sequence[Leaf]) -> str:
    """Say by how much numbers are off; nothing if that is rounding."""
    pairs = [pair for one, other in zip(got, wanted, strict=True) for pair in _pairs(one, other)]
    largest = max(abs(other) for _, other in pairs)
    worst = max((abs(one - other) for one, other in pairs), key=lambda x: math.inf if x != x else x)
    if worst <= TOLERANCE * largest:
        return ""
    return f"off by {worst:.3g}, where the largest entry is {largest:.3g}"


def _pairs(one: Leaf, other: Leaf) -> Iterator[tuple[float, float]]:
    return zip(one, other, strict=True)


def _cases(library: Library) -> list[_Case]:
    """Draw the gradients of a seed, and list the calls with what they must give."""
    rng = Random(0)
    grads = [_drawn(library, rng, shape, 1.0) for shape in SHAPES]
    params = [_drawn(library, rng, shape, 3.0) for shape in SHAPES]
    numbers = [library.numbers(array) for array in grads]
    weights = library.numbers(params[0])
    cases = [
        _Case(f"{name}", _called(function, grads, bound), wanted(numbers, bound))
        for name, function, wanted, bound in _PLAIN
    ]
    if library.writable:
        cases += [_in_place(library, *entry) for entry in _PLAIN if entry[0] != "clip_by_value"]
    matrix = grads[0]
    agc = reference.adaptive(numbers[0], weights, WIDTH)
    rows = reference.per_example(numbers[0], WIDTH, 1.0)
    length = [[reference.norm(x for leaf in numbers for x in leaf)]]
    return [
        *cases,
        _Case(
            "adaptive_grad_clip",
            lambda: [agclip.adaptive_grad_clip(matrix, params[0], unit_axes="out_in")],
            agc,
        ),
        _Case("clip_per_example", lambda: [agclip.clip_per_example(matrix, 1.0)[0]], rows),
        _Case("global_norm", lambda: [agclip.global_norm(grads)], length),
        *_extremes(library),
    ]


def _extremes(library: Library) -> list[_Case]:
    """Numbers whose squares leave the range of float32, and one that is no number."""
    large = library.array([3e30, -4e30], "float32")
    spoilt = library.array([3.0, math.nan], "float32")
    zeroed = lambda: [agclip.clip_by_norm(spoilt, 1.0, nonfinite="zero")]  # noqa: E731
    return [
        _Case("squares out of range", lambda: [agclip.clip_by_norm(large, 5.0)], [[3.0, -4.0]]),
        _Case("NaN, as asked for", zeroed, [[0.0, 0.0]]),
    ]


def _drawn(library: Library, rng: Random, shape: tuple[int, ...], spread: float) -> Array:
    values = [rng.gauss(0.0, spread) for _ in range(math.prod(shape))]
    return library.array(values, "float32", shape)


def _by_value(grads: Any, bound: float) -> Any:
    return agclip.clip_by_value(grads, -bound, bound)


def _by_global_norm(grads: Any, bound: float) -> Any:
    return agclip.clip_by_global_norm(grads, bound)[0]


_Plain = tuple[str, Callable[[Any, float], Any], Callable[[Sequence[Leaf], float], Any], float]
_PLAIN: tuple[_Plain, ...] = (
    ("clip_by_value", _by_value, reference.by_value, 0.5),
    ("clip_by_norm", agclip.clip_by_norm, reference.by_norm, 1.0),
    ("clip_by_average_norm", agclip.clip_by_average_norm, reference.by_average_norm, 0.1),
    ("clip_by_rms", agclip.clip_by_rms, reference.by_rms, 0.5),
    ("clip_by_global_norm", _by_global_norm, reference.by_global_norm, 1.0),
)


def _called(
    function: Callable[[Any, float], Any], grads: Sequence[Array], bound: float
) -> Callable[[], Any]:
    return lambda: function(list(grads), bound)


def _in_place(
    library: Library,
    name: str,
    _: Callable[[Any, float], Any],
    wanted: Callable[[Sequence[Leaf], float], Any],
    bound: float,
) -> _Case:
    """The twin of a clip: it writes into arrays of its own."""
    rng = Random(0)
    # Of at least one axis: a 0-d array of some libraries is a scalar, which cannot be written.
    arrays = [_drawn(library, rng, shape, 1.0) for shape in SHAPES if shape]
    numbers = [library.numbers(array) for array in arrays]

    def call() -> list[Array]:
        getattr(agclip, f"{name}_")(arrays, bound)
        return arrays

    return _Case(f"{name}_", call, wanted(numbers, bound))
