"""Every rule in place, on every kind of tree: it writes what it returns, or nothing at all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import agclip
from agclip._typing import Tree
from agclip.rules import ClipInfo
from agclip.testing.checks.rules import MEMORY, PLAIN, Case
from agclip.testing.harness.calls import all_numbers, outline, sample
from agclip.testing.harness.check import (
    Check,
    error_of,
    expect,
    expect_same,
    over,
    require_writable,
)
from agclip.testing.harness.library import Library

STEPS = (1.0, 8.0, 0.5)
"""What the gradients of each step are multiplied by."""

COMBINED = (
    Case("Chain with memory", agclip.Chain(agclip.QuantileClip(), agclip.ClipByNorm(0.05))),
    Case("PerGroup with memory", agclip.PerGroup({"w": agclip.QuantileClip(), "*": None})),
)


def _nested(library: Library, scale: float) -> Tree:
    return {
        "w": library.array([1.5 * scale, -2.0 * scale, 0.0, -0.0], "float32", (2, 2)),
        "nothing": None,
        "b": [library.array([-2.5 * scale], "float32"), ()],
    }


def _plain(library: Library, scale: float) -> Tree:
    return {"w": library.array([3.0 * scale, -4.0 * scale], "float32")}


def _empty_leaf(library: Library, scale: float) -> Tree:
    return {**_plain(library, scale), "e": library.array([], "float32", (0, 2))}


def _not_finite(library: Library, scale: float) -> Tree:
    bad = math.nan if scale == STEPS[1] else scale
    return {**_plain(library, scale), "b": library.array([bad, -scale], "float32")}


def _shared(library: Library, scale: float) -> Tree:
    one = library.array([3.0 * scale, -4.0 * scale], "float32")
    return {"w": one, "w again": [one]}


KINDS: dict[str, Callable[[Library, float], Tree]] = {
    "plain": _plain,
    "nested": _nested,
    "an empty leaf": _empty_leaf,
    "not finite": _not_finite,
    "shared memory": _shared,
}


class Cell(NamedTuple):
    """A rule, and a kind of tree."""

    case: Case
    kind: str

    @property
    def name(self) -> str:
        """How reports show it."""
        return f"{self.case.name}, {self.kind}"


def rules_in_place_equal_new(library: Library, cell: Cell) -> None:
    """In place a rule writes what it returns, and its states and records are the same."""
    _require_writable(library)
    grouped = isinstance(cell.case.rule, agclip.PerGroup)
    library.require(not (grouped and cell.kind == "shared memory"), "is refused in two groups")
    wanted, got = (_ran(library, cell, inplace=inplace) for inplace in (False, True))
    for i, (right, found) in enumerate(zip(wanted, got, strict=True)):
        expect_same(found, right, f"what {cell.name} writes and remembers in step {i}")


def _ran(library: Library, cell: Cell, *, inplace: bool) -> list[list[Any]]:
    """Return for each step the elements of all leaves, the numbers of the state, and the record."""
    rule, make = cell.case.rule, KINDS[cell.kind]
    state, found = rule.init(make(library, 1.0)), []
    for scale in STEPS:
        grads, params = make(library, scale), make(library, 1.0)
        new, state, info = (rule.update_ if inplace else rule.update)(grads, state, params)
        kept = not inplace or new is grads
        expect(kept, f"{cell.name} in place must return its argument; got another object")
        numbers = all_numbers(library, grads if inplace else new)
        found.append([*numbers, *all_numbers(library, state), *_facts(info)])
    return found


def _facts(info: ClipInfo) -> list[Any]:
    host = info.to_host()
    return [*host[:5], host.skip, *host.leaf_norms.values()]


def rules_that_fail_in_place_write_nothing(library: Library, case: Case) -> None:
    """In place, a rule that fails for its last leaf has not written the first one."""
    _require_writable(library)
    wrong = library.array([True, False], "bool")
    tree = {"w": library.array([3.0, -4.0], "float32"), "z": [wrong]}
    state = case.rule.init({**tree, "z": []})
    before = all_numbers(library, tree)
    found = error_of(lambda: case.rule.update_(tree, state, tree))
    refused = found.startswith("TypeError")
    expect(refused, f"{case.name} must refuse bool arrays in place; got {found}")
    expect_same(all_numbers(library, tree), before, f"the tree after a TypeError of {case.name}")


def rules_pass_over_a_step_without_arrays(library: Library, case: Case) -> None:
    """A step without gradients gives a warning, and the tree and the state as they were."""
    library.require(library.wrap is None, "warns while it compiles, not in each call")
    tree = sample(library)
    state = case.rule.init(tree)
    nothing = {"w": None, "b": [None]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new, after, _ = case.rule.update(nothing, state, nothing)
    expect(outline(new) == outline(nothing), f"{case.name} must keep the tree; got {new}")
    expect(len(caught) == 1, f"{case.name} must warn once; got {len(caught)} warnings")
    wanted, got = (all_numbers(library, one) for one in (state, after))
    expect_same(got, wanted, f"the state of {case.name} after a step without arrays")


def _require_writable(library: Library) -> None:
    require_writable(library)
    library.require(library.wrap is None, "passes copies to compiled code")


def checks() -> list[Check]:
    """Return the checks of this file."""
    cases = [*PLAIN, *MEMORY, *COMBINED]
    return [
        *over([Cell(case, kind) for case in cases for kind in KINDS], rules_in_place_equal_new),
        *over(cases, rules_that_fail_in_place_write_nothing, rules_pass_over_a_step_without_arrays),
    ]
