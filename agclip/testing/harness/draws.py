"""Random trees for the properties: extreme magnitudes, few shapes, and bounds near and far.

A source gives integers and choices; it is Hypothesis in the test class, and a seeded generator in
`check_backend`. Shapes are few because compilers compile once for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol, TypeVar

from agclip._typing import Array
from agclip.testing.harness.formats import FORMATS, parts
from agclip.testing.harness.library import Library

T = TypeVar("T")


class Source(Protocol):
    """Where the draws come from."""

    def integer(self, low: int, high: int) -> int:
        """Return an integer from low to high."""
        ...

    def choice(self, options: Sequence[T]) -> T:
        """Return one of several options."""
        ...


class Leaf(NamedTuple):
    """An array to be made: numbers that are exact in its dtype."""

    dtype: str
    shape: tuple[int, ...]
    values: list[Any]

    def squares(self) -> Fraction:
        """Return the exact sum of squares."""
        return sum((Fraction(p) ** 2 for v in self.values for p in parts(v)), Fraction(0))

    def shifted(self, power: int) -> Leaf:
        """Return the leaf times a power of two."""
        factor = math.ldexp(1.0, power)
        return self._replace(values=[v * factor for v in self.values])

    def on(self, library: Library) -> Array:
        """Return the leaf as an array of a library."""
        return library.array(self.values, self.dtype, self.shape)


class Draw(NamedTuple):
    """Leaves, and a bound that is exact in the dtype that bounds have in compiled code."""

    leaves: list[Leaf]
    bound: float

    def squares(self) -> Fraction:
        """Return the exact sum of squares over all leaves."""
        return sum((leaf.squares() for leaf in self.leaves), Fraction(0))

    def turned(self) -> Draw:
        """Return the leaves and their elements in reverse order, each leaf with one axis."""
        leaves = [Leaf(x.dtype, (len(x.values),), x.values[::-1]) for x in self.leaves[::-1]]
        return Draw(leaves, self.bound)

    def on(self, library: Library) -> list[Array]:
        """Return the leaves as arrays of a library."""
        return [leaf.on(library) for leaf in self.leaves]


def draw(source: Source, library: Library, dtypes: Sequence[str], span: int | None = None) -> Draw:
    """Return leaves of some of the dtypes, and a bound from 2^-20 to 2^4 times their norm.

    Args:
        source: Where the draws come from.
        library: The library, for the dtypes that it has.
        dtypes: What leaves may be made of.
        span: The largest exponent of an entry, up or down; None for all that the dtype has.
    """
    has = [dtype for dtype in dtypes if library.has(dtype)]
    library.require(bool(has), f"has none of {', '.join(dtypes)}")
    first = source.choice(has)
    # The pattern fixes all shapes and dtypes, so that compilers meet few of them.
    pattern = source.choice(("one", "two", "mixed"))
    layout: list[tuple[str, tuple[int, ...]]] = [(first, (4,))]
    if pattern == "two":
        layout = [(first, (2, 3)), (first, (0,)), (first, ())]
    elif pattern == "mixed":
        layout = [(first, (4,)), (has[0], ()), (has[-1], (3,))]
    leaves = [_leaf(source, library, dtype, shape, span) for dtype, shape in layout]
    return Draw(leaves, _bound(source, library, leaves))


def _leaf(
    source: Source, library: Library, dtype: str, shape: tuple[int, ...], span: int | None
) -> Leaf:
    form = FORMATS[dtype]
    low, high = form.smallest, form.largest + 1
    if span is not None:
        low, high = max(low, -span), min(high, span)
    base = source.choice((0, low + 4, high, source.integer(low + 4, high)))
    is_complex = dtype.startswith("complex")
    values: list[Any] = []
    for _ in range(math.prod(shape)):
        real = _entry(source, library, dtype, base)
        values.append(complex(real, _entry(source, library, dtype, base)) if is_complex else real)
    return Leaf(dtype, shape, values)


def _entry(source: Source, library: Library, dtype: str, base: int) -> float:
    form = FORMATS[dtype]
    mantissa = source.integer(1 - 2**form.precision, 2**form.precision - 1)
    exponent = base - form.precision - source.integer(0, 8)
    value = math.ldexp(mantissa, max(exponent, form.smallest - form.precision + 1))
    if abs(value) < form.smallest_normal and library.flushes_subnormals(dtype):
        return 0.0
    return value if mantissa else source.choice((0.0, -0.0))


def _bound(source: Source, library: Library, leaves: list[Leaf]) -> float:
    squares = sum((leaf.squares() for leaf in leaves), Fraction(0))
    norm = float_root(squares)
    ratio = source.choice((0.5, 1.0, 1 + 2.0**-20, 2.0 ** source.integer(-20, 4)))
    # With none the bound is the norm itself, rounded, where the comparison is hardest.
    jitter = source.choice((0, source.integer(0, 2**20))) * 2.0**-40
    return exact_bound(library, min(norm * ratio * (1 + jitter), norm * 16))


def exact_bound(library: Library, bound: float) -> float:
    """Return a bound rounded to what a 0-d array of the library can hold, and finite."""
    dtype = bound_dtype(library)
    largest = math.ldexp(2.0 - 2.0 ** (1 - FORMATS[dtype].precision), FORMATS[dtype].largest)
    bound = min(bound, largest)
    return bound if dtype == "float64" else float(library.numbers(library.array([bound], dtype))[0])


def bound_dtype(library: Library) -> str:
    """Return the widest dtype that a bound can have as an array."""
    return "float64" if library.has("float64") else "float32"


def float_root(squares: Fraction) -> float:
    """Return the square root of a fraction, to about the precision of a float."""
    if not squares:
        return 0.0
    shift = 128 - (squares.numerator.bit_length() - squares.denominator.bit_length())
    shift += shift % 2
    root = math.isqrt(int(squares * Fraction(2) ** shift))
    exponent = root.bit_length() - shift // 2
    return math.inf if exponent > FORMATS["float64"].largest + 1 else _ldexp(root, -shift // 2)


def _ldexp(mantissa: int, exponent: int) -> float:
    try:
        return float(Fraction(mantissa) * Fraction(2) ** exponent)
    except OverflowError:
        return math.inf
