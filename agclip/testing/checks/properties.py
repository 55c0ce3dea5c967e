"""Laws that hold for every tree: bounds met exactly, idempotence, scale, order, kind.

Each is checked in exact rationals on what was drawn: no tolerance but that of the law itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import agclip
from agclip._typing import Tree
from agclip.testing.checks.semantics import DTYPES, expect_like
from agclip.testing.harness.calls import all_numbers, leaves
from agclip.testing.harness.check import expect, expect_same, require_writable
from agclip.testing.harness.codec import MARGIN_WITHOUT_FLOAT64
from agclip.testing.harness.draws import Draw, Source, bound_dtype, draw, exact_bound, float_root
from agclip.testing.harness.formats import FORMATS, parts, ulp
from agclip.testing.harness.library import Library

FULL = ("float32", "float64", "complex64", "complex128")


def plain(tree: Tree, bound: Any) -> Any:
    """Clip by the global norm."""
    return agclip.clip_by_global_norm(tree, bound)


def plain_(tree: Tree, bound: Any) -> Any:
    """Clip by the global norm, in place."""
    return agclip.clip_by_global_norm_(tree, bound)


def strict(tree: Tree, bound: Any) -> Any:
    """Clip by the global norm, with the bound met exactly."""
    return agclip.clip_by_global_norm(tree, bound, strict=True)


def reproducible(tree: Tree, bound: Any) -> Any:
    """Clip by the reproducible global norm."""
    return agclip.clip_by_global_norm(tree, bound, reproducible=True)


def per_example(tree: Tree, bound: Any) -> Any:
    """Clip examples and add them up, with the bound met exactly."""
    return agclip.clip_per_example(tree, bound, strict=True)


def call(library: Library, function: Callable[..., Any], tree: Tree, bound: float) -> Any:
    """Call a clip; compiled code takes the bound as an array, and is compiled but once."""
    if library.wrap is None:
        return library.call(function, tree, bound)
    return library.call(function, tree, library.array([bound], bound_dtype(library), ()))


def strict_norm_is_never_above_the_bound(library: Library, source: Source) -> None:
    """With strict=True the exact norm of the result is within the bound (float32 and wider)."""
    drawn = draw(source, library, FULL)
    _expect_within(library, call(library, strict, drawn.on(library), drawn.bound)[0], drawn)


def strict_examples_are_within_the_bound(library: Library, source: Source) -> None:
    """With strict=True one example adds at most the bound to the sum, exactly."""
    drawn = draw(source, library, FULL)
    tree = [library.array(x.values, x.dtype, (1, *x.shape)) for x in drawn.leaves]
    _expect_within(library, call(library, per_example, tree, drawn.bound)[0], drawn)


def _expect_within(library: Library, clipped: Tree, drawn: Draw) -> None:
    wide = all(FORMATS[leaf.dtype].precision == 53 for leaf in drawn.leaves)
    # Below, the rounding of subnormal results outweighs what the coefficient is shrunk by.
    if drawn.bound >= math.ldexp(1.0, -900 if wide else -100):
        elements = (Fraction(p) for v in all_numbers(library, clipped) for p in parts(v))
        squares = sum((element**2 for element in elements), Fraction(0))
        within = squares <= Fraction(drawn.bound) ** 2
        expect(within, f"the norm must be <= {drawn.bound}; got {float_root(squares)} of {drawn}")


def strict_is_idempotent(library: Library, source: Source) -> None:
    """With strict=True clipping twice changes no bit, where no result is subnormal."""
    drawn = draw(source, library, DTYPES)
    once = call(library, strict, drawn.on(library), drawn.bound)[0]
    first = all_numbers(library, once)
    if _subnormal(once, library, drawn):
        return
    second = all_numbers(library, call(library, strict, once, drawn.bound)[0])
    expect_same(second, first, f"the second clip of {drawn}")


def _subnormal(tree: Tree, library: Library, drawn: Draw) -> bool:
    """Tell whether an element was rounded to fewer bits than the strict margin provides for."""
    floors = (FORMATS[leaf.dtype].smallest_normal for leaf in drawn.leaves)
    elements = zip(map(library.numbers, leaves(tree)), floors, strict=True)
    return any(0 < abs(part) < floor for leaf, floor in elements for v in leaf for part in parts(v))


def within_the_bound_is_identity(library: Library, source: Source) -> None:
    """A tree whose norm is within the bound comes back bit by bit."""
    drawn = draw(source, library, DTYPES)
    # The norm that was computed may exceed the exact one by its rounding.
    margin = Fraction(2) ** (-46 if library.sums_in_float64 else -16)
    if drawn.squares() * (1 + margin) <= Fraction(drawn.bound) ** 2:
        tree = drawn.on(library)
        before = all_numbers(library, tree)
        after = all_numbers(library, call(library, plain, tree, drawn.bound)[0])
        expect_same(after, before, f"the result of {drawn}")


def norm_and_entries_are_right(library: Library, source: Source) -> None:
    """Norm and clipped elements are within a few units in the last place of the exact ones."""
    drawn = draw(source, library, DTYPES)
    clipped, norm = call(library, plain, drawn.on(library), drawn.bound)
    squares, (got,) = drawn.squares(), library.numbers(norm)
    wide = any(FORMATS[leaf.dtype].precision == 53 for leaf in drawn.leaves)
    dtype = "float64" if wide else "float32"
    if math.isinf(got):
        least = Fraction(2) ** (FORMATS[dtype].largest + 1) * (1 - Fraction(1, 2**24))
        expect(squares >= least**2, f"the norm of {drawn} must be finite; got {got}")
    else:
        _expect_near(got, squares, dtype, (3 if wide else 1) + _margin(library))
    for leaf, array in zip(drawn.leaves, clipped, strict=True):
        for before, after in _pairs(leaf.values, library.numbers(array)):
            _expect_scaled(library, drawn, leaf.dtype, before, after)


def _expect_scaled(library: Library, drawn: Draw, dtype: str, before: float, after: float) -> None:
    form, squares = FORMATS[dtype], drawn.squares()
    wanted = Fraction(before) ** 2
    if squares > Fraction(drawn.bound) ** 2:
        wanted = wanted * Fraction(drawn.bound) ** 2 / squares
    tiny = wanted < Fraction(form.smallest_normal) ** 2
    if tiny and after == 0 and library.flushes_subnormals(dtype):
        return
    half = form.precision < 24
    tolerance = 0.51 if half else 4 if form.precision == 53 else 1.5 + _margin(library)
    _expect_near(abs(after), wanted, dtype, tolerance)
    expect(after * before >= 0, f"{before} must keep its sign; got {after}")


def _expect_near(got: float, square: Fraction, dtype: str, tolerance: float) -> None:
    """Check a non-negative number against the square root of a fraction, without rounding."""
    exact = Fraction(float_root(square)) if square else Fraction(0)
    step = Fraction(tolerance) * ulp(exact, dtype)
    low, high = max(Fraction(got) - step, Fraction(0)), Fraction(got) + step
    near = low**2 <= square <= high**2
    expect(near, f"{got} must be {float_root(square)} within {tolerance} ulp of {dtype}")


def _margin(library: Library) -> int:
    return 0 if library.sums_in_float64 else MARGIN_WITHOUT_FLOAT64


def _pairs(before: list[Any], after: list[Any]) -> Iterator[tuple[float, float]]:
    """Pair the real and imaginary parts of numbers."""
    for one, other in zip(before, after, strict=True):
        yield from zip(parts(one), parts(other), strict=True)


def scales_by_powers_of_two(library: Library, source: Source) -> None:
    """Gradients and bound times 2^k give the result times 2^k, bit by bit."""
    drawn = draw(source, library, ("float32", "float64"), span=20)
    power = source.integer(-60, 60)
    # Far from the ends of the range, so that nothing is subnormal.
    bound = exact_bound(library, max(drawn.bound, 2.0**-40))
    plainly = all_numbers(library, call(library, plain, drawn.on(library), bound)[0])
    shifted = [leaf.shifted(power).on(library) for leaf in drawn.leaves]
    far = call(library, plain, shifted, math.ldexp(bound, power))[0]
    got = [math.ldexp(v, -power) for v in all_numbers(library, far)]
    expect_same(got, plainly, f"the result of {drawn}, times 2^{power},")


def order_does_not_matter(library: Library, source: Source) -> None:
    """Leaves and elements in another order give the same result in that order."""
    drawn = draw(source, library, FULL)
    one = call(library, plain, drawn.on(library), drawn.bound)[0]
    two = call(library, plain, drawn.turned().on(library), drawn.bound)[0]
    for leaf, first, second in zip(drawn.leaves, one, two[::-1], strict=True):
        numbers = library.numbers(first), library.numbers(second)[::-1]
        for p, q in _pairs(*numbers):
            # Each is within 1.5 of the exact result.
            step = (3 + 2 * _margin(library)) * ulp(Fraction(p), leaf.dtype)
            near = abs(Fraction(p) - Fraction(q)) <= step
            expect(near, f"{drawn} in another order must give {p}; got {q}")


def reproducible_norm_has_no_order(library: Library, source: Source) -> None:
    """With reproducible=True no bit depends on the order or the shapes of leaves and elements."""
    library.require(library.sums_in_float64, "has no float64 to sum in")
    flushes = library.flushes_subnormals("float32")
    drawn = draw(source, library, DTYPES, span=40 if flushes else None)
    one, norm = call(library, reproducible, drawn.on(library), drawn.bound)
    two, other = call(library, reproducible, drawn.turned().on(library), drawn.bound)
    expect_same(library.numbers(other), library.numbers(norm), f"the norm of {drawn} turned")
    got = all_numbers(library, two)[::-1]
    expect_same(got, all_numbers(library, one), f"the result of {drawn} turned")


def kind_is_kept(library: Library, source: Source) -> None:
    """Every leaf keeps its class, dtype, shape and device."""
    drawn = draw(source, library, DTYPES)
    tree = drawn.on(library)
    clipped = call(library, plain, tree, drawn.bound)[0]
    for before, after in zip(tree, clipped, strict=True):
        expect_like(library, "clip_by_global_norm", before, after)


def in_place_gives_the_same_bits(library: Library, source: Source) -> None:
    """In place the leaves take the values that the function returns."""
    require_writable(library)
    drawn = draw(source, library, DTYPES)
    wanted = all_numbers(library, call(library, plain, drawn.on(library), drawn.bound)[0])
    tree = drawn.on(library)
    call(library, plain_, tree, drawn.bound)
    got = all_numbers(library, tree)
    expect_same(got, wanted, f"the result of {drawn} in place")


def value_clip_is_a_projection(library: Library, source: Source) -> None:
    """clip_by_value moves an element outside the bounds onto the nearer one, and no other."""
    drawn = draw(source, library, ("float32",))
    sizes = sorted(abs(v) for leaf in drawn.leaves for v in leaf.values)
    low, high = -source.choice(sizes), source.choice(sizes)
    bounds = [library.array([x], "float32", ()) for x in (low, high)]
    tree = drawn.on(library)
    wanted = [min(max(v, low), high) for v in all_numbers(library, tree)]
    clipped = library.call(agclip.clip_by_value, tree, *bounds)
    got = all_numbers(library, clipped)
    expect(got == wanted, f"{drawn} within [{low}, {high}] must be {wanted}; got {got}")
    again = all_numbers(library, library.call(agclip.clip_by_value, clipped, *bounds))
    expect_same(again, got, f"the second clip of {drawn}")


LAWS = (
    strict_norm_is_never_above_the_bound,
    strict_examples_are_within_the_bound,
    strict_is_idempotent,
    within_the_bound_is_identity,
    norm_and_entries_are_right,
    scales_by_powers_of_two,
    order_does_not_matter,
    reproducible_norm_has_no_order,
    kind_is_kept,
    in_place_gives_the_same_bits,
    value_clip_is_a_projection,
)
