"""What norms and coefficients promise beyond the vectors: their kind, and sums of many elements."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import agclip
from agclip._typing import Tree
from agclip.testing.checks.semantics import DTYPES, expect_like
from agclip.testing.harness.calls import all_numbers, leaves, outline
from agclip.testing.harness.check import Check, error_of, expect, over, plain
from agclip.testing.harness.codec import MARGIN_WITHOUT_FLOAT64
from agclip.testing.harness.formats import error
from agclip.testing.harness.library import Library

MANY = 10**6


def norm_has_the_widest_dtype(library: Library, dtype: str) -> None:
    """The norm is a 0-d array of the library on the leaves' device, float32 or float64."""
    narrow, leaf = library.array([12.0], "float32"), library.array([3.0, 4.0], dtype)
    wide = "float64" if dtype in ("float64", "complex128") else "float32"
    wanted = library.array([0.0], wide, ())
    for tree in ([leaf], [narrow, leaf]):
        expect_like(library, "the norm", wanted, library.call(agclip.global_norm, tree))
        expect_like(library, "the norm of a clip", wanted, library.call(_clip, tree)[1])


def mixed_dtypes_share_a_coefficient(library: Library) -> None:
    """Leaves of different dtypes are scaled alike, and each keeps its dtype."""
    dtypes = [dtype for dtype in DTYPES if library.has(dtype)]
    tree = [library.array([2.0, 0.0], dtype) for dtype in dtypes]
    clipped = library.call(_clip, tree)[0]
    for dtype, before, after in zip(dtypes, tree, clipped, strict=True):
        expect_like(library, f"the leaf of {dtype}", before, after)
    wanted = 1.0 / math.sqrt(len(dtypes))
    firsts = [library.numbers(leaf)[0] for leaf in clipped]
    near = all(abs(first - wanted) <= 2.0**-8 for first in firsts)
    expect(near, f"the leaves of {dtypes} must all hold {wanted}; got {firsts}")


def norm_of_many_entries(library: Library, dtype: str) -> None:
    """A million equal elements have the right norm: sums do not stagnate."""
    (entry,) = library.numbers(library.array([0.1], dtype))
    leaf = library.xp.reshape(library.array([entry] * MANY, dtype), (MANY // 8, 8))
    (got,) = library.numbers(library.call(agclip.global_norm, [leaf]))
    tolerance = 4 if dtype == "float64" else _tolerance(library, 1)
    exact = entry * math.sqrt(MANY)
    off = error(got, exact, "float64" if dtype == "float64" else "float32")
    expect(off <= tolerance, f"the norm must be {exact} within {tolerance} ulp; got {got}")


def every_entry_of_many_is_clipped(library: Library, axis: int | None) -> None:
    """A leaf that is too large for one block is clipped all over."""
    leaf = library.array([2.0] * (3 * MANY // 8), "float32", (3, MANY // 8))
    clipped = library.call(_ALONG[axis], leaf)
    exact = 1.0 / math.sqrt({None: 3 * (MANY // 8), 0: 3, 1: MANY // 8}[axis])
    for extreme in (library.xp.min, library.xp.max):
        (got,) = library.numbers(extreme(clipped))
        off = error(got, exact, "float32")
        near = off <= _tolerance(library, 1.5)
        expect(near, f"every entry must be {exact}; got {got}, {float(off):.3g} ulp off")


def _tolerance(library: Library, ulps: float) -> float:
    # A sum of a million float32 numbers in float32 loses more bits than one of a few does.
    return ulps if library.sums_in_float64 else ulps + 4 * MARGIN_WITHOUT_FLOAT64


def sums_over_examples_keep_their_kind(library: Library, dtype: str) -> None:
    """Sums over examples lose the leading axis alone; the count is a 0-d int32 array."""
    tree = {
        "w": library.array([3.0, 4.0, 0.0, 1.0], dtype, (2, 2)),
        "b": [library.array([0.0, 0.0], dtype), None],
    }
    sums, count = library.call(_per_example, tree)
    expect(outline(sums) == outline(tree), f"the tree must be kept; got {outline(sums)}")
    of_rows, of_scalars = leaves(sums)
    expect_like(library, "the sum of rows", library.array([0.0, 0.0], dtype), of_rows)
    expect_like(library, "the sum of scalars", library.array([0.0], dtype, ()), of_scalars)
    expect_like(library, "the count", library.array([0], "int32", ()), count)
    got = all_numbers(library, count)
    expect(got == [1], f"one example must be counted; got {got[0]}")


def strict_holds_next_to_the_norm(library: Library, count: int) -> None:
    """With strict=True a bound that is just below the exact norm is met, not taken for the norm."""
    below = math.isqrt(count << 104) * 2.0**-52
    (bound,) = library.numbers(library.array([below], "float32"))
    for c in (below, bound if bound**2 < count else bound * (1 - 2.0**-23)):
        clipped = library.call(_strictly(c), [library.array([1.0] * count, "float32")])
        squares = sum(Fraction(entry) ** 2 for entry in all_numbers(library, clipped))
        within = squares <= Fraction(c) ** 2
        expect(within, f"the exact norm must be <= {c!r}; got {all_numbers(library, clipped)}")


def _strictly(bound: float) -> Callable[[Tree], Tree]:
    return lambda tree: agclip.clip_by_norm(tree, bound, strict=True)


def reproducible_needs_float64(library: Library) -> None:
    """Where sums cannot be formed in float64, reproducible=True is a NotImplementedError."""
    library.require(not library.sums_in_float64, "has float64")
    library.require(library.wrap is None, "is refused in direct calls already")
    leaf = library.array([3.0], "float32")
    found = error_of(lambda: agclip.global_norm([leaf], reproducible=True))
    said = "`reproducible` must be False on devices without float64" in found
    named = said and found.startswith("NotImplementedError")
    expect(named, f"reproducible=True must be refused on this device; got {found}")


def _clip(tree: Tree) -> Any:
    return agclip.clip_by_global_norm(tree, 1.0)


def _per_example(tree: Tree) -> Any:
    return agclip.clip_per_example(tree, 2.0)


_ALONG = {
    None: lambda t: agclip.clip_by_norm(t, 1.0),
    0: lambda t: agclip.clip_by_norm(t, 1.0, 0),
    1: lambda t: agclip.clip_by_norm(t, 1.0, 1),
}


def checks() -> list[Check]:
    """Return the checks of this file."""
    return [
        *over(DTYPES, norm_has_the_widest_dtype, sums_over_examples_keep_their_kind),
        *over(("float16", "float32", "float64"), norm_of_many_entries),
        *over((None, 0, 1), every_entry_of_many_is_clipped),
        *over((2, 3, 5, 6, 7), strict_holds_next_to_the_norm),
        *plain(mixed_dtypes_share_a_coefficient, reproducible_needs_float64),
    ]
