"""What a rule costs beside its function, and what a call costs a leaf: small leaves, all in cache.

    PYTHONPATH=$PWD:$PWD/backends python -m bench.rules [rules] [dispatch]

`rules` divides the time of a rule by that of the function it does the work of, on the same leaves
and in turns with it. Nothing is clipped, so that both do the least: what is left is Python.
`dispatch` draws a line through the times of a call with one leaf and with many.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

import agclip
from bench import accelerate, pairs, report
from bench.arrays import layers, numpy_copies, torch_copies
from bench.workloads import Gradients

LEAVES = (1, 20, 200, 1000)
ELEMENTS = 100
SIZE = 1e-3
"""Of an element: the norm of all leaves stays below one, where no rule here clips."""
BOUND = 1e3

LIBRARIES: dict[str, Callable[[Gradients], list[Any]]] = {
    "arrays of NumPy": numpy_copies,
    "tensors": torch_copies,
}
Function = Callable[..., Any]


class Pair(NamedTuple):
    """A rule, the function that it is measured by, and how it is called."""

    rule: Any
    function: Function
    kept: bool = True
    """By a clipper, in place; else by `update`."""

    def call(self, grads: list[Any]) -> pairs.Call:
        """Return a step of the rule."""
        if not self.kept:
            state = self.rule.init(grads)
            return lambda: self.rule.update(grads, state)
        clipper = agclip.Clipper(self.rule, inplace=True)
        return lambda: clipper(grads)


_GLOBAL, _EACH = agclip.clip_by_global_norm_, agclip.clip_by_norm_
PAIRS = {
    "`ClipByGlobalNorm.update`": Pair(
        agclip.ClipByGlobalNorm(BOUND), agclip.clip_by_global_norm, kept=False
    ),
    "`Clipper`": Pair(agclip.ClipByGlobalNorm(BOUND), _GLOBAL),
    "`ClipByNorm` in a `Clipper`": Pair(agclip.ClipByNorm(BOUND), _EACH),
    "`ZClip` in a `Clipper`": Pair(agclip.ZClip(), _GLOBAL),
    "`ZClip.update`": Pair(agclip.ZClip(), agclip.clip_by_global_norm, kept=False),
    "`QuantileClip` in a `Clipper`": Pair(agclip.QuantileClip(BOUND, rate=1e-9), _GLOBAL),
    "`AutoClip` of 100 norms in a `Clipper`": Pair(agclip.AutoClip(100.0, 100), _GLOBAL),
    "`AutoClip` of 1000 norms in a `Clipper`": Pair(agclip.AutoClip(100.0, 1000), _GLOBAL),
    "`AdaGC` in a `Clipper`": Pair(agclip.AdaGC(), _EACH),
}


def _gradients(count: int) -> Gradients:
    return [np.full(ELEMENTS, SIZE, np.float32) for _ in range(count)]


def rules() -> Iterator[str]:
    """Yield the lines of a table: rules by their functions, by library and number of leaves."""
    rows = [["÷ the function", "1 leaf", *map(str, LEAVES[1:])]]
    for library, copies in LIBRARIES.items():
        for title, pair in PAIRS.items():
            ratios = (_ratio(pair, copies, _gradients(count)) for count in LEAVES)
            rows.append([f"{title}, {library}", *map(report.short, ratios)])
    yield from report.table(rows)
    yield ""


def _ratio(
    pair: Pair, copies: Callable[[Gradients], list[Any]], gradients: Gradients
) -> pairs.Ratio:
    calls = {
        "function": _bounded(pair.function, copies(gradients)),
        "rule": pair.call(copies(gradients)),
    }
    return pairs.ratio(_alternate(calls), "rule", "function")


def _alternate(calls: dict[str, pairs.Call]) -> pairs.Times:
    return pairs.alternate(calls, lambda _: nullcontext())


def _flat(leaves: list[Any]) -> dict[str, Any]:
    return {f"leaf{i:04}": leaf for i, leaf in enumerate(leaves)}


TREES: dict[str, Callable[[list[Any]], Any]] = {
    "a list": list,
    "a dict": _flat,
    "dicts in a dict": layers,
}
FUNCTIONS = (
    agclip.clip_by_global_norm_,
    agclip.clip_by_global_norm,
    agclip.clip_by_norm_,
    agclip.clip_by_value_,
)


def dispatch() -> Iterator[str]:
    """Yield the lines of a table: what a call with one leaf costs, and each leaf more."""
    head = ["within the bound", "one leaf, µs", *(f"each more in {name}, µs" for name in TREES)]
    rows = [head]
    for library, copies in LIBRARIES.items():
        rows += [[f"`{one.__name__}`, {library}", *_costs(copies, one)] for one in FUNCTIONS]
    yield from report.table(rows)
    yield ""


def _costs(copies: Callable[[Gradients], list[Any]], function: Function) -> list[str]:
    """Return the microseconds of a call with one leaf, and of a leaf more in each tree."""
    few, many = LEAVES[0], LEAVES[-1]
    calls = {
        (name, count): _bounded(function, tree(copies(_gradients(count))))
        for name, tree in TREES.items()
        for count in (few, many)
    }
    times = _alternate({f"{name} {count}": call for (name, count), call in calls.items()})
    middle = {key: statistics.median(seconds) * 1e6 for key, seconds in times.items()}
    slopes = [(middle[f"{name} {many}"] - middle[f"{name} {few}"]) / (many - few) for name in TREES]
    return [f"{middle[f'a list {few}']:.1f}", *(f"{slope:.2f}" for slope in slopes)]


def _bounded(function: Function, tree: Any) -> pairs.Call:
    """Return a call that clips nothing: `clip_by_value_` takes two bounds."""
    bounds = (-BOUND, BOUND) if function is agclip.clip_by_value_ else (BOUND,)
    return lambda: function(tree, *bounds)


PARTS: dict[str, Callable[[], Iterator[str]]] = {"rules": rules, "dispatch": dispatch}


if __name__ == "__main__":
    accelerate.use()
    report.show_parts(PARTS, sys.argv[1:])
