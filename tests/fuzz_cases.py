"""Random calls of the public functions, and what the exact oracle says that each must return.

A call is drawn from a seed alone, so that it can be drawn again by its number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from random import Random
from typing import Any

from agclip.testing.harness.codec import arrays_of
from oracle import functions as reference
from oracle.functions import FORMATS, Tensor
from vectors import reproducible
from vectors.case import COMPONENT, INTEGERS, Array, rounded
from vectors.notation import leaves_of
from vectors.results import RESULTS

REALS = ("float16", "bfloat16", "float32", "float64")
FLOATS = (*REALS, "complex64", "complex128")
SHAPES = ((), (1,), (3,), (4,), (0,), (2, 3), (3, 1), (2, 2, 2), (2, 0), (1, 5))
POLICIES = ("propagate", "zero", "skip")
SCALES = (2.0**-10, 2.0, 1024.0, 65536.0, 3.0, 1000.0)
ORDERS = (1, 2, 2, 2, math.inf, 3, 0.5, 1.5, 2.5)


@dataclass(frozen=True)
class Call:
    """A call of a public function on one library."""

    function: str
    args: tuple[Any, ...]
    options: dict[str, Any]

    def expected(self) -> Any:
        """Return what it must return, in the notation of the golden vectors."""
        exact: dict[str, Callable[..., Any]] = RESULTS
        if "reproducible" in self.options:
            exact = reproducible.RESULTS
        args = list(self.args)
        if self.options.get("nonfinite") == "zero" and None in args[1:]:
            args[args.index(None, 1)] = math.inf  # without a bound the policy is applied too
        expected = exact[self.function](*args, **self.options)
        self._allow_for_roundings(expected)
        return expected

    def _allow_for_roundings(self, expected: Any) -> None:
        """Widen what the vectors ask where they stand for less than what is drawn here.

        A float64 norm is right to 3 units in the last place, or 3 / ord; a quotient that is
        subnormal is rounded. `docs/numerics.md` has both.
        """
        order = self.options.get("ord", 2)
        for leaf in arrays_of(expected):
            if self.function == "clip_by_value" and "loss_scale" in self.options:
                leaf["ulps"] = max(leaf["ulps"], 0.5)
            elif leaf["ulps"] and leaf["dtype"] in {"float64", "complex128"}:
                leaf["ulps"] = 3 / min(order, 1) + 1

    def capped(self, largest: float) -> Call:
        """Return the call with a bound that is no larger."""
        return self._bounded(lambda bound: min(bound, largest))

    def shifted(self, factor: float) -> Call:
        """Return the call with another bound: for one that lies where the norm is."""
        return self._bounded(lambda bound: bound * factor)

    def _bounded(self, change: Callable[[float], float]) -> Call:
        place = 2 if self.function == "adaptive_grad_clip" else 1
        args = list(self.args)
        if place >= len(args) or not _ordinary(args[place]):
            return self
        args[place] = change(args[place])
        return replace(self, args=tuple(args))


def _ordinary(bound: Any) -> bool:
    return isinstance(bound, float) and 0 < bound < math.inf


def draw(source: Random, dtypes: Sequence[str], *, exact_sums: bool) -> Call:
    """Return a call.

    Args:
        source: Where the draws come from.
        dtypes: The dtypes that leaves may have.
        exact_sums: Whether the library forms sums in float64, and so has a reproducible norm.
    """
    floats = [x for x in dtypes if x in FLOATS]
    if exact_sums and source.random() < 0.08:
        return _reproducible(source, floats)
    function = source.choice(tuple(_DRAWN))
    if function == "clip_by_value":
        return _by_value(source, dtypes)
    call = _DRAWN[function](source, floats)
    if not exact_sums:
        call = call.capped(2.0**100)  # times the root of the size it is to be a float32
    options = dict(call.options)
    if function != "global_norm" and source.random() < 0.5:
        options["nonfinite"] = source.choice(POLICIES)
    if source.random() < 0.3:
        options["loss_scale"] = source.choice(SCALES)
    return replace(call, options=options)


def entry(source: Random, dtype: str, base: int, *, plain: bool) -> float:
    """Return a number of a dtype near a power of two; plain ones are small whole numbers."""
    form = FORMATS[COMPONENT.get(dtype, dtype)]
    if plain:
        return float(source.choice((-4, -3, 0, 1, 2, 3, 4, 6, 8, 12)))
    if source.random() < 0.1:
        return source.choice((0.0, -0.0))
    mantissa = source.uniform(-2.0, 2.0)
    value = math.ldexp(mantissa, max(base - source.randint(0, 8), form.smallest - form.precision))
    return max(min(value, float(form.largest)), -float(form.largest))


def leaf(
    source: Random,
    dtype: str,
    shape: tuple[int, ...],
    base: int | None = None,
    *,
    finite: bool = False,
) -> Array:
    """Return an array whose entries lie around one power of two, a few of them not finite."""
    form = FORMATS[COMPONENT.get(dtype, dtype)]
    largest = math.frexp(float(form.largest))[1]
    plain = source.random() < 0.3
    ends = (0, form.smallest + 4, largest - 1, source.randint(form.smallest + 4, largest - 1))
    base = source.choice(ends) if base is None else base
    values: list[Any] = []
    for _ in range(math.prod(shape)):
        value: Any = entry(source, dtype, base, plain=plain)
        if dtype in COMPONENT:
            value = complex(value, entry(source, dtype, base, plain=plain))
        values.append(rounded(value, dtype))
    if values and not finite and source.random() < 0.08:
        bad: Any = source.choice((math.nan, math.inf, -math.inf))
        if dtype in COMPONENT:
            # Libraries differ in which part of a product is NaN where one part of a factor is not.
            bad = complex(math.nan, math.nan)
        values[source.randrange(len(values))] = bad
    return Array(dtype, Tensor(shape, tuple(values)))


def tree(source: Random, make: Callable[[], Any], depth: int = 2) -> Any:
    """Return nested containers with leaves and Nones."""
    kind = source.choice(("leaf", "list", "tuple", "dict")) if depth else "leaf"
    if kind == "leaf":
        return make()
    children = [
        None if source.random() < 0.15 else tree(source, make, depth - 1)
        for _ in range(source.randint(1, 3))
    ]
    if not any(True for _ in leaves_of(children)):
        children.append(make())
    if kind == "dict":
        return {f"k{i}": child for i, child in enumerate(children)}
    return children if kind == "list" else tuple(children)


def _leaves(
    source: Random, dtypes: Sequence[str], base: int | None = None, *, finite: bool = False
) -> Callable[[], Array]:
    """Return what makes the leaves of one tree: of one dtype, or mixed."""
    first, mixed = source.choice(dtypes), source.random() < 0.3

    def make() -> Array:
        dtype = source.choice(dtypes) if mixed else first
        return leaf(source, dtype, source.choice(SHAPES), base, finite=finite)

    return make


def bound(source: Random, arrays: Sequence[Array], order: float = 2) -> Any:
    """Return a bound: far from the norm, near it, on it, or none."""
    tensors = [x.tensor for x in arrays]
    exact = reference.global_norm(tensors, Fraction(order) if order != math.inf else order)
    special = source.random()
    if special < 0.15:
        return source.choice((None, math.inf, 0.0, 1.0))
    size = min(max(float(min(exact, Fraction(2) ** 1000)), 2.0**-1000), 2.0**1000)
    size = size if math.isfinite(size) else 1.0
    if special < 0.3:
        return size
    return size * 2.0 ** source.uniform(-8.0, 2.0)


def _per_leaf(function: str) -> Callable[[Random, Sequence[str]], Call]:
    def drawn(source: Random, dtypes: Sequence[str]) -> Call:
        made = tree(source, _leaves(source, dtypes))
        arrays = list(leaves_of(made))
        if function != "clip_by_norm":
            return Call(function, (made, bound(source, [source.choice(arrays)])), {})
        order = source.choice(ORDERS)
        args = (made, bound(source, [source.choice(arrays)], order))
        if source.random() < 0.3:
            shared = min(len(x.tensor.shape) for x in arrays)
            axes = source.sample(range(shared), source.randint(0, shared))
            args += (axes[0] if len(axes) == 1 and source.random() < 0.5 else axes,)
        return Call(function, args, {"ord": order})

    return drawn


def _by_global_norm(source: Random, dtypes: Sequence[str]) -> Call:
    made, order = tree(source, _leaves(source, dtypes)), source.choice(ORDERS)
    args = (made, bound(source, list(leaves_of(made)), order))
    if source.random() < 0.1:
        args += (source.choice((0.5, 5.0, 1e6)),)
    return Call("clip_by_global_norm", args, {"ord": order})


def _global_norm(source: Random, dtypes: Sequence[str]) -> Call:
    made = tree(source, _leaves(source, dtypes))
    return Call("global_norm", (made,), {"ord": source.choice(ORDERS)})


def _by_value(source: Random, dtypes: Sequence[str]) -> Call:
    numbers = [x for x in dtypes if x in REALS or x in INTEGERS]
    dtype = source.choice(numbers)
    if dtype in INTEGERS:
        low, high = INTEGERS[dtype]
        values = tuple(source.choice((low, high, source.randint(low, high))) for _ in range(4))
        made: Any = Array(dtype, Tensor((4,), values))
    else:
        made = tree(source, _leaves(source, [x for x in numbers if x in REALS]))
    ends: list[Any] = sorted(source.uniform(-200.0, 200.0) for _ in "ab")
    options: dict[str, Any] = {}
    if dtype in INTEGERS:
        ends = [*map(round, ends)]
    ends = [source.choice((None, end)) for end in ends]
    if dtype not in INTEGERS and source.random() < 0.2:
        options["loss_scale"] = source.choice([x for x in SCALES if math.frexp(x)[0] == 0.5])
    return Call("clip_by_value", (made, *ends), options)


def _adaptive(source: Random, dtypes: Sequence[str]) -> Call:
    grads = tree(source, _leaves(source, dtypes))

    def like(x: Any) -> Any:
        if isinstance(x, Array):
            # Of ordinary size and finite: no norm of them is beyond the largest float64.
            return leaf(source, x.dtype, x.tensor.shape, source.randint(-12, 12), finite=True)
        if isinstance(x, dict):
            return {key: like(child) for key, child in x.items()}
        return None if x is None else type(x)(map(like, x))

    args = (grads, like(grads), 2.0 ** source.uniform(-8.0, 2.0))
    return Call("adaptive_grad_clip", args, {"unit_axes": source.choice(("out_in", "in_out"))})


def _per_example(source: Random, dtypes: Sequence[str]) -> Call:
    dtype, batch, base = source.choice(dtypes), source.randint(1, 4), source.randint(-8, 8)

    def make() -> Array:
        rest = source.choice(((), (2,), (2, 2), (0,)))
        x = leaf(source, dtype, (batch, *rest), base)
        # Of one sign: what is left of numbers that cancel each other has few digits.
        values = tuple(
            complex(abs(v.real), abs(v.imag)) if isinstance(v, complex) else abs(v)
            for v in x.tensor.values
        )
        return Array(dtype, Tensor(x.tensor.shape, values))

    made = tree(source, make)
    return Call("clip_per_example", (made, bound(source, list(leaves_of(made)))), {})


def _reproducible(source: Random, dtypes: Sequence[str]) -> Call:
    """Return a call of which all bits are told: of numbers whose quotients are normal ones."""
    made = tree(source, _leaves(source, dtypes, source.randint(-2, 10), finite=True))
    arrays = list(leaves_of(made))
    function = source.choice(tuple(reproducible.RESULTS))
    options: dict[str, Any] = {"reproducible": True}
    if function != "clip_by_norm" and not any(x.dtype in COMPONENT for x in arrays):
        options["ord"] = source.choice((1, 2))
    some = arrays if function != "clip_by_norm" else [source.choice(arrays)]
    size = reproducible.norm(some, options.get("ord", 2))
    limit = size * 2.0 ** source.uniform(-8.0, 2.0)
    args = (made,) if function == "global_norm" else (made, limit or 1.0)
    return Call(function, args, options)


_DRAWN: dict[str, Callable[[Random, Sequence[str]], Call]] = {
    "clip_by_value": _by_value,
    "clip_by_norm": _per_leaf("clip_by_norm"),
    "clip_by_average_norm": _per_leaf("clip_by_average_norm"),
    "clip_by_rms": _per_leaf("clip_by_rms"),
    "clip_by_global_norm": _by_global_norm,
    "global_norm": _global_norm,
    "adaptive_grad_clip": _adaptive,
    "clip_per_example": _per_example,
}
