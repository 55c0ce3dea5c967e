"""Golden vectors of `reproducible=True`, and the definition they follow, in exact integers.

The reproducible norm is a number by definition: with m the largest |x|, t a power of two that is 1
unless a float64 m is extreme, and P the smallest power of two >= t·m,

    S = Σ RN((t·x)² to a multiple of g),  g = P²·2^-D,  D = 64, or 96 if a leaf is float64;

for ord=1 and real entries likewise with |t·x| and P. S is rounded to float64 from three limbs of 52
bits, the two high ones first; the norm is its root, rounded, over t. What is clipped is multiplied
by bound / norm, rounded to float64 and then to the dtype that the leaf is multiplied in. All bits
follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from random import Random
from typing import Any

from oracle.functions import Tensor, round_to
from vectors.case import Array, Cases, array
from vectors.notation import leaves_of, over_tree, result, with_results

CLIP = Cases("clip_by_global_norm")
NORM = Cases("global_norm")
LEAF = Cases("clip_by_norm")
CASES = [CLIP, NORM, LEAF]


def parts(leaf: Array) -> list[Fraction]:
    """Return the entries of a leaf, and of a complex one the parts of each."""
    values = leaf.tensor.values
    if leaf.dtype.startswith("complex"):
        return [Fraction(p) for v in values for p in (v.real, v.imag)]
    return [Fraction(v) for v in values]


def norm(leaves: list[Array], order: int = 2) -> float:
    """Return the reproducible norm of leaves, as a float64."""
    entries = [x for leaf in leaves for x in parts(leaf)]
    wide = any(leaf.component == "float64" for leaf in leaves)
    largest = max(map(abs, entries), default=Fraction(0))
    if not largest:
        return 0.0
    scale = Fraction(_scale(float(largest)) if wide else 1)
    unit = Fraction(2) ** (math.frexp(float(largest * scale))[1])
    unit = unit / 2 if unit / 2 == largest * scale else unit
    grid = unit**order * Fraction(2) ** (-96 if wide else -64)
    terms = [Fraction(round_to(abs(x * scale) ** order, "float64")) for x in entries]
    limbs = _limbs(sum(round(term / grid) for term in terms))
    high = round_to(limbs[0] * 2**104 + limbs[1] * 2**52, "float64")
    total = round_to((Fraction(high) + limbs[2]) * grid, "float64")
    return (math.sqrt(total) if order == 2 else total) / float(scale)


def _scale(largest: float) -> float:
    if largest >= 2.0**480:
        return 2.0**-600
    return 2.0**620 if largest < 2.0**-450 else 1.0


def _limbs(integer: int) -> tuple[int, int, int]:
    return integer >> 104, integer >> 52 & 2**52 - 1, integer & 2**52 - 1


def scaled(leaf: Array, bound: float, size: float) -> Tensor:
    """Return a leaf times bound / size where size is above the bound, rounded as defined."""
    if size <= bound:
        return leaf.tensor
    coefficient = bound / size
    compute = "float64" if leaf.component == "float64" else "float32"
    factor = Fraction(round_to(coefficient, compute))

    def entry(x: float) -> float:
        product = round_to(Fraction(x) * factor, compute)
        return math.copysign(round_to(product, leaf.component), x)

    if leaf.dtype.startswith("complex"):
        values = tuple(complex(entry(v.real), entry(v.imag)) for v in leaf.tensor.values)
    else:
        values = tuple(map(entry, leaf.tensor.values))
    return Tensor(leaf.tensor.shape, values)


def by_global_norm(t: Any, bound: float, *, ord: int = 2, reproducible: bool = True) -> Any:
    """Return the result of clipping a tree, all bits of it."""
    leaves = list(leaves_of(t))
    size = norm(leaves, ord)
    results = [result(leaf, scaled(leaf, bound, size), {}) for leaf in leaves]
    return {"tuple": [with_results(t, results), reported(leaves, size)]}


def global_norm(t: Any, ord: int = 2, *, reproducible: bool = True) -> Any:
    """Return the norm of a tree, all bits of it."""
    leaves = list(leaves_of(t))
    return reported(leaves, norm(leaves, ord))


def reported(leaves: list[Array], size: float) -> Any:
    """Write down a norm in the dtype that it is returned in."""
    dtype = "float64" if any(leaf.component == "float64" for leaf in leaves) else "float32"
    exact = Tensor((), (round_to(size, dtype),))
    return result(Array(dtype, exact), exact, {})


def by_norm(t: Any, bound: float, axes: Any = None, *, reproducible: bool = True) -> Any:
    """Return the result of clipping every leaf by its own norm, or its rows by theirs."""

    def clipped(x: Any) -> Any:
        if not isinstance(x, Array):
            return over_tree(x, clipped)
        rows = [x] if axes is None else list(_rows(x))
        values = [v for row in rows for v in scaled(row, bound, norm([row])).values]
        return result(x, Tensor(x.tensor.shape, tuple(values)), {})

    return clipped(t)


def _rows(leaf: Array) -> Iterator[Array]:
    count, length = leaf.tensor.shape
    for i in range(count):
        values = leaf.tensor.values[i * length : (i + 1) * length]
        yield Array(leaf.dtype, Tensor((length,), values))


RESULTS: dict[str, Callable[..., Any]] = {
    "clip_by_global_norm": by_global_norm,
    "global_norm": global_norm,
    "clip_by_norm": by_norm,
}


def random(dtype: str, shape: tuple[int, ...], size: float, seed: int, spread: int = 8) -> Array:
    """Return entries whose sizes are spread over so many powers of two."""
    source = Random(seed)
    entries = [
        size * source.uniform(-1.0, 1.0) * 2.0 ** -source.randint(0, spread)
        for _ in range(2 * math.prod(shape))
    ]
    if dtype.startswith("complex"):
        values: list[Any] = [complex(*entries[i : i + 2]) for i in range(0, len(entries), 2)]
    else:
        values = list(entries[: math.prod(shape)])
    made = array(dtype, values)
    return Array(dtype, Tensor(shape, made.tensor.values))


for cases in (CLIP, NORM, LEAF):
    cases.promise("With reproducible=True every bit follows from the definition of the norm.")
for number, dtype in enumerate(("float16", "bfloat16", "float32", "float64", "complex64")):
    leaves = [random(dtype, (40,), 1.0, number), random(dtype, (3, 5), 1.0, 10 + number)]
    CLIP.add(f"reproducible, {dtype}", leaves, 0.7, reproducible=True)
    if dtype != "complex64":
        NORM.add(f"reproducible, ord=1, {dtype}", leaves, 1, reproducible=True)
for name, leaves in {
    "float32, size 1e30": [random("float32", (40,), 1e30, 20)],
    "float32, size 1e-25": [random("float32", (40,), 1e-25, 21)],
    "float32, far apart": [random("float32", (40,), 1.0, 22, spread=60)],
    "float64, far apart": [random("float64", (40,), 1.0, 23, spread=100)],
    "float64, size 1e200": [random("float64", (40,), 1e200, 24)],
    "float64, size 1e-200": [random("float64", (40,), 1e-200, 25)],
    "complex128, size 1e-200": [random("complex128", (40,), 1e-200, 26)],
    "mixed dtypes": [
        random("float32", (9,), 1.0, 27),
        random("float16", (9,), 3.0, 28),
        random("float64", (9,), 1e-3, 29),
    ],
    "zeros": [array("float32", [0.0, -0.0])],
    "a power of two as the largest": [array("float32", [0.1, 0.3, -2.0, 0.7])],
}.items():
    NORM.add(f"reproducible, {name}", leaves, reproducible=True)
LEAVES = [random("float32", (40,), 1.0, 30), random("float32", (3, 5), 1.0, 31)]
CLIP.add("reproducible, on the bound", LEAVES, norm(LEAVES), reproducible=True)
CLIP.add(
    "reproducible, below the bound", LEAVES, math.nextafter(norm(LEAVES), 9), reproducible=True
)
CLIP.add(
    "reproducible, above the bound", LEAVES, math.nextafter(norm(LEAVES), 0), reproducible=True
)
CLIP.add("reproducible, ord=1", LEAVES, 2.5, ord=1, reproducible=True)
LEAF.add("reproducible", LEAVES, 1.5, reproducible=True)
LEAF.add("reproducible, axes", random("float32", (4, 9), 1.0, 32), 0.5, 1, reproducible=True)
LEAF.add(
    "reproducible, axes, float64", random("float64", (4, 9), 1.0, 33), 0.5, 1, reproducible=True
)
