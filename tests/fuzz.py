"""Call every function on random trees, in every library, and compare with the exact oracle.

    make fuzz
    make fuzz FUZZ_ARGS="--trees 500000 --seconds 3600 --seed night"
    make fuzz FUZZ_ARGS="--seed night --number 4711"  # one of them again

Each tree is drawn from the seed and its number. Where a result is not what exact arithmetic says, a
program to paste is printed, its call made as small as it still fails; the run goes on, and its exit
status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import agclip
import libraries
from agclip.testing import Library
from agclip.testing.checks.vectors import Vector
from agclip.testing.harness.calls import all_numbers
from agclip.testing.harness.check import expect_same
from agclip.testing.harness.codec import arrays_of, compare, has_subnormals
from fuzz_cases import FLOATS, Call, draw
from fuzz_code import program, smaller
from vectors.case import INTEGERS
from vectors.notation import encode

SHARES = {
    "numpy": 40,
    "torch": 30,
    "strict": 6,
    "strict-no-float64": 4,
    "strict-no-x64": 4,
    "mlx": 6,
    "mlx-no-float64": 3,
    "tensorflow": 4,
    "cupy": 2,
    "jax": 0.5,
    "dask": 0.5,
}
"""How often each library is drawn: some start a program for each call."""

WITHOUT = {"torch": ("uint16", "uint32", "uint64"), "mlx": ("uint64",)}
"""What a library has no comparison for, or makes no arrays of from large numbers."""


def _near(sums_in_float64: bool) -> float:
    """Return how near a norm may lie to the bound for its rounding to decide."""
    return 2.0**-44 if sums_in_float64 else 2.0**-16


def wrong(call: Call, library: Library) -> str:
    """Return what is wrong with the result of a call; empty if it is right."""
    expected = call.expected()
    reason = _wrong(call, expected, library)
    if not reason:
        return ""
    others = _let_roundings_decide(call, expected, library)
    return reason if all(_wrong(call, other, library) for other in others) else ""


def _wrong(call: Call, expected: Any, library: Library) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            got = _result(call, expected, library)
            compare(library, expected, got)
            _compare_in_place(call, expected, library, got)
    except Exception as error:  # noqa: BLE001 - whatever it raises, the call was to return
        return f"{type(error).__name__}: {error}"
    return ""


def _let_roundings_decide(call: Call, expected: Any, library: Library) -> list[Any]:
    """Return what is expected too where a norm is the bound but for its rounding.

    Either side of the bound is right then: the results differ by roundings alone, and a count by
    one.
    """
    margin = _near(library.sums_in_float64)
    sides = [call.shifted(1.0 + sign * margin).expected() for sign in (1, -1)]
    near = False
    for leaf, *others in zip(*map(arrays_of, (expected, *sides)), strict=True):
        tolerances = [one["ulps"] for one in (leaf, *others)]
        near |= 0 in tolerances and any(tolerances)
        leaf["ulps"] = max(tolerances)
    counts = {json.dumps(list(arrays_of(side))[-1]) for side in (expected, *sides)}
    if call.function != "clip_per_example":
        return [expected] if near else []
    if not near and len(counts) == 1:
        return []
    tree = expected["tuple"][0]
    return [{"tuple": [tree, json.loads(count)]} for count in counts]


def _vector(call: Call, expected: Any) -> Vector:
    args = [encode(arg) for arg in call.args]
    options = {key: encode(value) for key, value in call.options.items()}
    return Vector("fuzz", "", call.function, args, options, expected)


def _result(call: Call, expected: Any, library: Library) -> Any:
    function, trees = _vector(call, expected).prepare(library, getattr(agclip, call.function))
    return library.call(function, *trees)


def _compare_in_place(call: Call, expected: Any, library: Library, got: Any) -> None:
    twin = getattr(agclip, f"{call.function}_", None)
    if twin is None or not library.writable:
        return
    function, trees = _vector(call, expected).prepare(library, twin)
    written = all_numbers(library, function(*trees))
    expect_same(written, all_numbers(library, got), "the result in place")


def applies(call: Call, library: Library) -> bool:
    """Tell whether a library can compute with the numbers of a call."""
    leaves = [leaf for arg in call.args for leaf in arrays_of(encode(arg))]
    tiny = (leaf["dtype"] for leaf in leaves if has_subnormals(leaf))
    return not any(library.flushes_subnormals(dtype) for dtype in tiny)


@contextlib.contextmanager
def opened(names: list[str]) -> Iterator[dict[str, Library]]:
    """Open the libraries that are there."""
    known = {**libraries.LIBRARIES, **libraries.GRAPHS}
    with contextlib.ExitStack() as stack:
        found = {}
        for name in names:
            backend, opener = known[name]
            try:
                if backend != "array_api_strict":
                    agclip.get_backend(backend)
                found[name] = stack.enter_context(opener())
            except (ImportError, RuntimeError, ValueError) as error:
                print(f"{name} is left out: {error}")
        yield found


def drawn(seed: str, number: int, found: dict[str, Library]) -> tuple[str, Call]:
    """Return the call of a number, and the library that it is of."""
    source = Random(f"{seed} {number}")
    (name,) = source.choices(list(SHARES), list(SHARES.values()))
    if name not in found:
        name = "numpy"
    library = found[name]
    without = WITHOUT.get(library.backend, ())
    dtypes = [x for x in (*FLOATS, *INTEGERS) if library.has(x) and x not in without]
    return name, draw(source, dtypes, exact_sums=library.sums_in_float64)


def fuzz(seed: str, numbers: range, seconds: float, found: dict[str, Library]) -> tuple[Any, int]:
    """Call, compare, and print what is wrong; return the counts, and how many were wrong."""
    counts: Counter[tuple[str, str]] = Counter()
    failures, end = 0, time.monotonic() + seconds
    for number in numbers:
        if time.monotonic() > end:
            break
        name, call = drawn(seed, number, found)
        library = found[name]
        if not applies(call, library):
            counts["", ""] += 1
            continue
        counts[name, call.function] += 1
        reason = wrong(call, library)
        if reason:
            failures += 1
            least = smaller(call, lambda one, lib=library: bool(wrong(one, lib)))
            print(f"# --seed {seed} --number {number}, {name}")
            print(program(least, library.backend, wrong(least, library)), flush=True)
    return counts, failures


def summary(counts: Counter[tuple[str, str]]) -> str:
    """Return how many trees there were, by library and by function."""
    lines = []
    for place, what in ((0, "library"), (1, "function")):
        of: Counter[str] = Counter()
        for key, count in counts.items():
            of[key[place]] += count
        rows = (f"  {name:22} {count:9,}" for name, count in of.most_common() if name)
        lines += [f"by {what}:", *rows]
    passed_over = counts["", ""]
    total = counts.total() - passed_over
    return "\n".join([*lines, f"{total:,} trees, {passed_over:,} passed over as subnormal"])


def main() -> int:
    """Run it from a shell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=50_000, help="how many at most (%(default)s)")
    parser.add_argument("--seconds", type=float, default=600, help="for how long (%(default)s)")
    parser.add_argument("--seed", default="0", help="what they are drawn from (%(default)s)")
    parser.add_argument("--number", type=int, help="this one alone")
    parser.add_argument("--libraries", default=",".join(SHARES), help="the libraries (%(default)s)")
    given = parser.parse_args()
    numbers = range(given.trees)
    if given.number is not None:
        numbers = range(given.number, given.number + 1)
    print(f"seed {given.seed}, at most {len(numbers):,} trees and {given.seconds:g} s", flush=True)
    with opened(given.libraries.split(",")) as found:
        began = time.monotonic()
        counts, failures = fuzz(given.seed, numbers, given.seconds, found)
    print(f"{summary(counts)}, {failures} wrong, in {time.monotonic() - began:.0f} s")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
