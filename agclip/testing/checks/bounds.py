"""Bounds that are arrays or traced, bounds that are absent, and trees with nothing to bound."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import agclip
from agclip._typing import Tree
from agclip.testing.checks.semantics import expect_like
from agclip.testing.harness.calls import all_numbers
from agclip.testing.harness.check import Check, expect, expect_same, over, plain
from agclip.testing.harness.library import Library


class Bounded(NamedTuple):
    """A clip with a bound, and nothing else, beside the tree."""

    name: str
    clip: Callable[[Tree, Any], Tree]


BOUNDED = (
    Bounded("clip_by_norm", agclip.clip_by_norm),
    Bounded("clip_by_average_norm", agclip.clip_by_average_norm),
    Bounded("clip_by_rms", agclip.clip_by_rms),
    Bounded("clip_by_global_norm", lambda t, c: agclip.clip_by_global_norm(t, c)[0]),
    Bounded(
        "adaptive_grad_clip", lambda t, c: agclip.adaptive_grad_clip(t, t, c, unit_axes="out_in")
    ),
)


def bound_may_be_an_array(library: Library, bounded: Bounded) -> None:
    """A 0-d array as bound gives the same bits as the number it holds."""
    tree = [library.array([3.0, -4.0, 0.1], "float32")]
    plainly = all_numbers(library, library.call(lambda t: bounded.clip(t, 0.75), tree))
    bound = library.array([0.75], "float32", ())
    got = all_numbers(library, library.call(bounded.clip, tree, bound))
    expect_same(got, plainly, "the result with an array as bound")


def bound_may_change_in_compiled_code(library: Library, bounded: Bounded) -> None:
    """A compiled function takes another number as bound in every call, as a schedule gives it."""
    library.require(library.wrap is not None, "is called directly")
    _expect_changes(library, bounded.clip)


def value_bound_may_change_in_compiled_code(library: Library) -> None:
    """A compiled value clip takes other numbers as bounds in every call."""
    library.require(library.wrap is not None, "is called directly")
    _expect_changes(library, _by_value)


def _by_value(tree: Tree, bound: Any) -> Tree:
    return agclip.clip_by_value(tree, -1.0, bound)


def _expect_changes(library: Library, function: Callable[..., Tree]) -> None:
    tree = [library.array([3.0, -4.0, 0.1], "float32")]
    for bound in (0.5, 0.75, 0.625):
        got = all_numbers(library, library.call(function, tree, bound))
        wanted = all_numbers(library, function(tree, bound))
        # A compiler may contract operations, which moves the last bit.
        near = all(abs(a - b) <= 2.0**-22 * abs(b) for a, b in zip(got, wanted, strict=True))
        expect(near, f"the result by {bound} must be {wanted}; got {got}")


def bad_bounds_in_compiled_code(library: Library, bound: float) -> None:
    """A traced bound that is negative counts as 0, and one that is NaN gives NaN."""
    library.require(library.traced, "reads the values of bounds")
    tree = [library.array([3.0, -4.0], "float32")]
    clipped = library.call(agclip.clip_by_norm, tree, library.array([bound], "float32", ()))
    got = all_numbers(library, clipped)
    wanted = [math.nan, math.nan] if math.isnan(bound) else [0.0, -0.0]
    expect_same(got, wanted, f"the result with a traced bound of {bound}")


def crossed_bounds_in_compiled_code(library: Library) -> None:
    """Where traced bounds of a value clip cross, the lower one wins."""
    library.require(library.traced, "reads the values of bounds")
    bounds = [library.array([bound], "float32", ()) for bound in (2.0, 1.0)]
    tree = [library.array([0.0, 1.5, 3.0], "float32")]
    got = all_numbers(library, library.call(agclip.clip_by_value, tree, *bounds))
    expect_same(got, [2.0, 2.0, 2.0], "the result with bounds that cross")


def no_bound_still_heeds_the_policy(library: Library) -> None:
    """Without a bound nothing is clipped, but "zero" still zeroes what is not finite."""
    tree = [library.array([math.inf, 1.0], "float32"), library.array([1e30], "float32")]
    wanted = [0.0, 0.0, *library.numbers(tree[1])]
    got = all_numbers(library, library.call(_zero_only, tree))
    expect_same(got, wanted, "the result without a bound")


def numbers_beside_arrays(library: Library) -> None:
    """A list of Python numbers in a tree becomes a float32 array like the others."""
    clipped, norm = library.call(_with_numbers, library.array([3.0], "float32"))
    expect_like(library, "the list of numbers", library.array([4.0, 0.0], "float32"), clipped[1])
    got = all_numbers(library, [*clipped, norm])
    expect_same(got, [1.5, 2.0, 0.0, 5.0], "what leaves and norm hold")


def empty_tree_warns(library: Library, name: str) -> None:
    """A tree without arrays comes back as it is, with the norm 0 and a warning."""
    library.require(library.wrap is None, "has nothing to compile")
    arguments = {"clip_by_value": (0.0, 1.0), "adaptive_grad_clip": ({"w": [None]},)}
    options = {"unit_axes": "in_out"} if name == "adaptive_grad_clip" else {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = getattr(agclip, name)({"w": [None]}, *arguments.get(name, (1.0,)), **options)
    messages = [str(w.message) for w in caught if w.category is UserWarning]
    expect(len(messages) == 1, f"{name} must warn once of a tree without arrays; got {messages}")
    tree, *others = result if isinstance(result, tuple) else (result,)
    expect(tree == {"w": [None]}, f"{name} must return the tree; got {tree!r}")
    expect(all(float(x) == 0 for x in others), f"{name} must report 0; got {others!r}")


def _zero_only(tree: Tree) -> Tree:
    return agclip.clip_by_norm(tree, None, nonfinite="zero")


def _with_numbers(leaf: Tree) -> Any:
    return agclip.clip_by_global_norm([leaf, [4.0, 0]], 2.5)


_CLIPS = (
    "clip_by_value",
    "clip_by_norm",
    "clip_by_average_norm",
    "clip_by_rms",
    "clip_by_global_norm",
    "adaptive_grad_clip",
    "clip_per_example",
)


def checks() -> list[Check]:
    """Return the checks of this file."""
    return [
        *over(BOUNDED, bound_may_be_an_array, bound_may_change_in_compiled_code),
        *over((-1.0, math.nan), bad_bounds_in_compiled_code),
        *over(_CLIPS, empty_tree_warns),
        *plain(
            value_bound_may_change_in_compiled_code,
            crossed_bounds_in_compiled_code,
            no_bound_still_heeds_the_policy,
            numbers_beside_arrays,
        ),
    ]
