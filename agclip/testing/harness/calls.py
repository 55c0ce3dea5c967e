"""Every clip as a function of a tree alone, once with a bound that clips the sample, once without.

So the promises that are common to all clips are written once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import agclip
from agclip._typing import Array, Tree
from agclip.testing.harness.library import Library


class Point(NamedTuple):
    """A container of its own class."""

    x: Any
    y: Any


class Clip(NamedTuple):
    """A clip with all arguments fixed but the tree.

    Attributes:
        name: The function, and the arguments that matter.
        tight: Changes the sample.
        loose: Leaves the sample as it is.
        tight_: `tight` in place.
        loose_: `loose` in place.
        refused: In place, with `nonfinite="error"` where the function has it.
    """

    name: str
    tight: Callable[[Tree], Tree]
    loose: Callable[[Tree], Tree]
    tight_: Callable[[Tree], Tree]
    loose_: Callable[[Tree], Tree]
    refused: Callable[[Tree], Tree]


def _by_bound(name: str, tight: float, loose: float, **options: Any) -> Clip:
    function, in_place = getattr(agclip, name), getattr(agclip, f"{name}_")
    shown = "".join(f", {key}={value}" for key, value in options.items())
    return Clip(
        name + shown,
        lambda t: function(t, tight, **options),
        lambda t: function(t, loose, **options),
        lambda t: in_place(t, tight, **options),
        lambda t: in_place(t, loose, **options),
        lambda t: in_place(t, tight, nonfinite="error", **options),
    )


CLIPS = (
    Clip(
        "clip_by_global_norm",
        lambda t: agclip.clip_by_global_norm(t, 0.5)[0],
        lambda t: agclip.clip_by_global_norm(t, 1e4)[0],
        lambda t: agclip.clip_by_global_norm_(t, 0.5)[0],
        lambda t: agclip.clip_by_global_norm_(t, 1e4)[0],
        lambda t: agclip.clip_by_global_norm_(t, 0.5, nonfinite="error")[0],
    ),
    _by_bound("clip_by_norm", 0.5, 1e4),
    _by_bound("clip_by_norm", 0.5, 1e4, axes=()),
    _by_bound("clip_by_norm", 0.5, 1e4, ord=3),
    _by_bound("clip_by_average_norm", 0.25, 1e4),
    _by_bound("clip_by_rms", 0.5, 1e4),
    Clip(
        "adaptive_grad_clip",
        lambda t: agclip.adaptive_grad_clip(t, t, 0.5, unit_axes="out_in"),
        lambda t: agclip.adaptive_grad_clip(t, t, 2.0, unit_axes="out_in"),
        lambda t: agclip.adaptive_grad_clip_(t, t, 0.5, unit_axes="out_in"),
        lambda t: agclip.adaptive_grad_clip_(t, t, 2.0, unit_axes="out_in"),
        lambda t: agclip.adaptive_grad_clip_(t, t, 0.5, unit_axes="out_in", nonfinite="error"),
    ),
    Clip(
        "clip_by_value",
        lambda t: agclip.clip_by_value(t, -0.5, 0.75),
        lambda t: agclip.clip_by_value(t, -1e4, 1e4),
        lambda t: agclip.clip_by_value_(t, -0.5, 0.75),
        lambda t: agclip.clip_by_value_(t, -1e4, 1e4),
        lambda t: agclip.clip_by_value_(t, 2.0, 1.0),
    ),
)

VALUES = (1.5, -2.0, 0.0, -0.0, 3.0, 0.25)


def sample(library: Library, dtype: str = "float32") -> Tree:
    """Return a tree of every kind of container, with leaves of several shapes."""
    return {
        "w": library.array(VALUES, dtype, (2, 3)),
        "nothing": None,
        "b": [library.array([-2.5], dtype, ()), (library.array([], dtype, (0, 2)), None)],
        "a": Point(library.array(VALUES[:4], dtype), {}),
    }


def leaves(tree: Tree) -> list[Array]:
    """Return the arrays of a sample in order."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return [leaf for child in tree.values() for leaf in leaves(child)]
    if isinstance(tree, (list, tuple)):
        return [leaf for child in tree for leaf in leaves(child)]
    return [tree]


def outline(tree: Tree) -> Any:
    """Return the containers of a tree and their keys, without the leaves."""
    if isinstance(tree, dict):
        return type(tree), [(key, outline(child)) for key, child in tree.items()]
    if isinstance(tree, (list, tuple)):
        return type(tree), [outline(child) for child in tree]
    return None if tree is None else "array"


def all_numbers(library: Library, tree: Tree) -> list[Any]:
    """Return the elements of all leaves."""
    return [number for leaf in leaves(tree) for number in library.numbers(leaf)]
