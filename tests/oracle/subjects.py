"""Every clip and rule once more, on lists of Python floats: what a run of steps has to give.

A step is a list of leaves, a leaf its shape and its entries in row-major order. Each function takes
all steps of a run and returns what comes out of each, the entries of every leaf. It shares no code
with agclip; sums are `math.fsum`, statistics those of `reference_rules`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from oracle import rules as reference_rules

Entries: TypeAlias = list[float]


class Leaf(NamedTuple):
    """A leaf of a step: its name, shape and entries."""

    name: str
    shape: tuple[int, ...]
    entries: Entries


Run: TypeAlias = Sequence[Sequence[Leaf]]
Outcome: TypeAlias = list[list[Entries]]
Oracle: TypeAlias = Callable[[Run, str], Outcome]


def norm(entries: Sequence[float], order: float = 2.0) -> float:
    """Return the norm of entries of ordinary size."""
    if any(math.isnan(x) for x in entries):
        return math.nan
    if order == math.inf or math.inf in map(abs, entries):
        return max(map(abs, entries), default=0.0)
    return math.fsum(abs(x) ** order for x in entries) ** (1 / order)


def group(entries: Entries, size: float, bound: float, policy: str) -> Entries:
    """Clip the entries of one group, whose norm is given."""
    if not math.isfinite(size):
        filled = {"propagate": math.nan, "zero": 0.0}
        return entries if policy == "skip" else [filled[policy]] * len(entries)
    return entries if size <= bound else [x * (bound / size) for x in entries]


def jointly(leaves: Sequence[Leaf], bound: float, policy: str, order: float = 2.0) -> list[Entries]:
    """Clip all leaves of a step by their common norm."""
    size = norm([x for leaf in leaves for x in leaf.entries], order)
    return [group(leaf.entries, size, bound, policy) for leaf in leaves]


def by_global_norm(bound: float, order: float = 2.0) -> Oracle:
    return lambda run, policy: [jointly(leaves, bound, policy, order) for leaves in run]


def by_schedule(schedule: Callable[[int], float]) -> Oracle:
    return lambda run, policy: [
        jointly(leaves, schedule(step), policy) for step, leaves in enumerate(run)
    ]


def by_norm(
    bound: float, order: float = 2.0, share: Callable[[int], float] = lambda _: 1.0
) -> Oracle:
    """Clip each leaf by its own norm, the bound multiplied by a function of its size."""

    def of_leaf(leaf: Leaf, policy: str) -> Entries:
        size = max(len(leaf.entries), 1)
        return group(leaf.entries, norm(leaf.entries, order), bound * share(size), policy)

    return lambda run, policy: [[of_leaf(leaf, policy) for leaf in leaves] for leaves in run]


def by_entry(bound: float) -> Oracle:
    """Clip every entry as a group of its own."""

    def of_leaf(leaf: Leaf, policy: str) -> Entries:
        return [group([x], norm([x]), bound, policy)[0] for x in leaf.entries]

    return lambda run, policy: [[of_leaf(leaf, policy) for leaf in leaves] for leaves in run]


def by_value(low: float, high: float) -> Oracle:
    def of_entry(x: float) -> float:
        return x if math.isnan(x) else max(min(x, high), low)

    return lambda run, _: [[[*map(of_entry, leaf.entries)] for leaf in leaves] for leaves in run]


def adaptive(clipping: float, weights: dict[str, Entries], eps: float = 1e-3) -> Oracle:
    """Clip the rows of matrices, and vectors whole, by the norms of their weights."""

    def of_leaf(leaf: Leaf, policy: str) -> Entries:
        rows = leaf.shape[0] if len(leaf.shape) > 1 else 1
        width = len(leaf.entries) // rows
        out: Entries = []
        for i in range(rows):
            mine = slice(i * width, (i + 1) * width)
            bound = clipping * max(norm(weights[leaf.name][mine]), eps)
            out += group(leaf.entries[mine], norm(leaf.entries[mine]), bound, policy)
        return out

    return lambda run, policy: [[of_leaf(leaf, policy) for leaf in leaves] for leaves in run]


def per_example(bound: float) -> Oracle:
    """Clip each example by its norm over all leaves, and add up."""

    def of_step(leaves: Sequence[Leaf], policy: str) -> list[Entries]:
        count = leaves[0].shape[0]
        rows = [
            [
                leaf.entries[i * len(leaf.entries) // count : (i + 1) * len(leaf.entries) // count]
                for leaf in leaves
            ]
            for i in range(count)
        ]
        clipped = [
            [
                group(row, norm([x for one in example for x in one]), bound, policy)
                for row in example
            ]
            for example in rows
        ]
        return [
            [
                math.fsum(column) if all(map(math.isfinite, column)) else sum(column)
                for column in zip(*(example[i] for example in clipped), strict=True)
            ]
            for i in range(len(leaves))
        ]

    return lambda run, policy: [of_step(leaves, policy) for leaves in run]


def _norms(run: Run) -> Entries:
    return [norm([x for leaf in leaves for x in leaf.entries]) for leaves in run]


def by_bounds(bounds: Callable[[Entries], Entries]) -> Oracle:
    """Clip by the global norm, to bounds that follow from the norms of a run."""
    return lambda run, policy: [
        jointly(leaves, bound, policy)
        for leaves, bound in zip(run, bounds(_norms(run)), strict=True)
    ]


def adagc(relative: float, absolute: float, decay: float, warmup: int) -> Oracle:
    def of_run(run: Run, policy: str) -> Outcome:
        sizes = [[norm(leaf.entries) for leaf in leaves] for leaves in run]
        averages = reference_rules.adagc(sizes, relative, absolute, decay, warmup)
        before = [[0.0] * len(sizes[0]), *averages]
        out = []
        for step, leaves in enumerate(run):
            whole = norm(sizes[step])
            shared = absolute / whole if math.isfinite(whole) and whole > absolute else math.inf
            out.append([])
            for leaf, size, average in zip(leaves, sizes[step], before[step], strict=True):
                early = step < warmup or average == 0
                bound = min(size * shared, math.inf) if early else relative * average
                bound = math.inf if math.isnan(bound) else bound
                out[-1].append(group(leaf.entries, size, bound, policy))
        return out

    return of_run


def spike(threshold: float, decay: float, warmup: int) -> Oracle:
    def of_run(run: Run, policy: str) -> Outcome:
        out: Outcome = [[[] for _ in leaves] for leaves in run]
        for i, leaf in enumerate(run[0]):
            for j in range(len(leaf.entries)):
                history = [leaves[i].entries[j] for leaves in run]
                for step, x in enumerate(
                    reference_rules.spike(history, threshold, decay, warmup)[0]
                ):
                    lost = policy == "zero" and not math.isfinite(x)
                    out[step][i].append(0.0 if lost else x)
        return out

    return of_run


def chain(*oracles: Oracle) -> Oracle:
    def of_run(run: Run, policy: str) -> Outcome:
        for oracle in oracles:
            out = oracle(run, policy)
            run = [
                [leaf._replace(entries=new) for leaf, new in zip(leaves, results, strict=True)]
                for leaves, results in zip(run, out, strict=True)
            ]
        return out

    return of_run


def per_group(groups: dict[str, Oracle | None]) -> Oracle:
    """Clip the leaves whose names begin with a letter by the oracle of that letter."""

    def of_run(run: Run, policy: str) -> Outcome:
        out = [[leaf.entries for leaf in leaves] for leaves in run]
        for letter, oracle in groups.items():
            places = [i for i, leaf in enumerate(run[0]) if leaf.name.startswith(letter)]
            if oracle is None or not places:
                continue
            mine = oracle([[leaves[i] for i in places] for leaves in run], policy)
            for step, results in enumerate(mine):
                for i, new in zip(places, results, strict=True):
                    out[step][i] = new
        return out

    return of_run
