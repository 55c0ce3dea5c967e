"""Golden vectors: calls of every public function, with results from exact rational arithmetic.

`tests/vectors/write.py` of agclip's repository makes the file from an oracle that shares no
code with the package; see `harness/codec.py` for its notation.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

import agclip
from agclip._typing import Tree
from agclip.testing.harness.calls import all_numbers
from agclip.testing.harness.check import Check, expect_same
from agclip.testing.harness.codec import arrays_of, compare, decode, has_subnormals
from agclip.testing.harness.library import Library, NotApplicableError


class Vector(NamedTuple):
    """One call and its result, both encoded."""

    name: str
    about: str
    function: str
    args: list[Any]
    kwargs: dict[str, Any]
    result: Any

    def prepare(
        self, library: Library, function: Callable[..., Tree]
    ) -> tuple[Callable[..., Tree], list[Tree]]:
        """Return a function of the arguments that hold arrays alone, and these arguments.

        Args:
            library: The library whose arrays they shall be.
            function: The function to call: that of the vector, or its twin that works in place.

        Raises:
            NotApplicableError: If the library has not all dtypes, or cannot compute with an input.
        """
        for leaf in arrays_of([*self.args, self.result]):
            library.dtype(leaf["dtype"])
        library.require(
            library.sums_in_float64 or not self.kwargs.get("reproducible"),
            "has no float64 to sum in",
        )
        for leaf in arrays_of(self.args):
            if has_subnormals(leaf) and library.flushes_subnormals(leaf["dtype"]):
                msg = f"{library} flushes subnormal numbers of {leaf['dtype']} to zero"
                raise NotApplicableError(msg)
        places = [i for i, arg in enumerate(self.args) if any(arrays_of(arg))]
        fixed = [None if i in places else decode(library, arg) for i, arg in enumerate(self.args)]
        named = {key: decode(library, value) for key, value in self.kwargs.items()}
        return _call(function, places, fixed, named), [
            decode(library, self.args[i]) for i in places
        ]


def _call(
    function: Callable[..., Tree],
    places: list[int],
    fixed: list[Any],
    named: dict[str, Any],
) -> Callable[..., Tree]:
    """Fix all arguments of a function but those that hold arrays."""

    def call(*trees: Tree) -> Tree:
        args = list(fixed)
        for place, tree in zip(places, trees, strict=True):
            args[place] = tree
        return function(*args, **named)

    return call


@functools.cache
def vectors() -> tuple[Vector, ...]:
    """Return the vectors that are shipped."""
    text = resources.files("agclip.testing").joinpath("vectors.json").read_text(encoding="utf-8")
    return tuple(Vector(**entry) for entry in json.loads(text))


def checks() -> list[Check]:
    """Return a check for each vector."""
    return [_check(vector) for vector in vectors()]


def _check(vector: Vector) -> Check:
    def run(library: Library) -> None:
        call, trees = vector.prepare(library, getattr(agclip, vector.function))
        result = library.call(call, *trees)
        compare(library, vector.result, result)
        twin = getattr(agclip, f"{vector.function}_", None)
        if twin is not None and library.writable and library.wrap is None:
            _same_in_place(library, vector, twin, result)

    return Check(f"vector {vector.name}", vector.about, run)


def _same_in_place(library: Library, vector: Vector, twin: Any, result: Tree) -> None:
    call, trees = vector.prepare(library, twin)
    written = all_numbers(library, call(*trees))
    wanted = all_numbers(library, result)
    expect_same(written, wanted, "the result in place")
