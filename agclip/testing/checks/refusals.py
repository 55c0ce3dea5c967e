"""Calls that must fail: what is wrong with each, and the class and text of its error."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import agclip
from agclip._typing import Tree
from agclip.testing.harness.library import Library


class Refusal(NamedTuple):
    """A call that must fail.

    Attributes:
        name: What is wrong with it.
        error: The class of the error.
        message: A regular expression that its text must match somewhere.
        call: The call, of a float32 leaf [3, -4] and the library.
    """

    name: str
    error: type[Exception]
    message: str
    call: Callable[[Any, Library], Any]


_WORDS: Any = ("low", 1.0)
"""Bounds that a type checker would find."""

TREES: dict[str, tuple[str, Callable[[Tree], Any]]] = {
    "clip_by_norm": ("t", lambda t: agclip.clip_by_norm(t, 1.0)),
    "clip_by_average_norm": ("t", lambda t: agclip.clip_by_average_norm(t, 1.0)),
    "clip_by_rms": ("t", lambda t: agclip.clip_by_rms(t, 1.0)),
    "clip_by_global_norm": ("t_list", lambda t: agclip.clip_by_global_norm(t, 1.0)),
    "global_norm": ("t_list", agclip.global_norm),
    "adaptive_grad_clip": ("grads", lambda t: agclip.adaptive_grad_clip(t, t, unit_axes="in_out")),
    "clip_per_example": ("grads", lambda t: agclip.clip_per_example(t, 1.0)),
    "clip_by_value": ("t", lambda t: agclip.clip_by_value(t, -1.0, 1.0)),
}
"""For each function the name of its first argument, and a call of a tree."""


class _Foreign:
    """An array of another library."""

    dtype = "float32"
    shape = (1,)
    ndim = 1

    def __mul__(self, _: object) -> _Foreign:
        return self

    def __array_namespace__(self) -> object:
        return object()


Call = Callable[[Any, Library], Any]


def _wrong_leaves() -> Iterator[Refusal]:
    for name, (argument, clip) in TREES.items():
        there = rf"{argument}\['w'\]\[1\]"
        for dtype in ("bool", "complex64" if name == "clip_by_value" else "int32"):
            message = f"`{argument}` must hold real .*got {dtype} at {there}"
            yield Refusal(f"{name} of {dtype}", TypeError, message, _beside(clip, dtype))
        message = f"`{argument}` must be an array.*got str at {there}"
        yield Refusal(f"{name} of a string", TypeError, message, _beside(clip, None, "gradient"))
        message = rf"one library; got .* at {argument}\['w'\]\[0\] and agclip at {there}"
        foreign = _beside(clip, None, _Foreign())
        yield Refusal(f"{name} of two libraries", TypeError, message, foreign)


def _beside(clip: Callable[[Tree], Any], dtype: str | None, other: object = None) -> Call:
    """Return a call of a leaf beside one of a dtype, or beside what is no leaf."""
    return lambda x, library: clip({"w": [x, library.array([1], dtype) if dtype else other]})


_BOUNDED: dict[str, Callable[[Any, Any], Any]] = {
    "clip_by_norm": agclip.clip_by_norm,
    "clip_by_average_norm": agclip.clip_by_average_norm,
    "clip_by_rms": agclip.clip_by_rms,
    "clip_by_global_norm": agclip.clip_by_global_norm,
    "adaptive_grad_clip": lambda x, c: agclip.adaptive_grad_clip(x, x, c, unit_axes="in_out"),
    "clip_per_example": agclip.clip_per_example,
}

_WRONG_BOUNDS: tuple[tuple[str, Any, type[Exception], str], ...] = (
    ("a negative bound", -1.0, ValueError, "must be a number >= 0"),
    ("a bound of NaN", math.nan, ValueError, "must be a number >= 0"),
    ("a list as bound", [1.0], ValueError, "must be a scalar"),
    ("a string as bound", "1", TypeError, "must be a number >= 0"),
    ("a bool as bound", True, TypeError, "must be a number >= 0"),
)


def _wrong_bounds() -> Iterator[Refusal]:
    for name, clip in _BOUNDED.items():
        for shown, bound, error, message in _WRONG_BOUNDS:
            yield Refusal(f"{name} by {shown}", error, message, _by(clip, bound))
        message = r"must be a scalar; got an array of shape \(2,\)"
        yield Refusal(f"{name} by a vector", ValueError, message, _by(clip))


def _by(clip: Callable[[Any, Any], Any], *bound: Any) -> Call:
    """Return a call of a leaf by a bound, or by itself if there is none."""
    return lambda x, _: clip(x, *(bound or (x,)))


def _not_finite() -> Iterator[Refusal]:
    for name in _BOUNDED:
        argument = TREES[name][0]
        places = rf"got NaN at {argument}\['b'\], an infinity at {argument}\['c'\]"
        message = f"`{argument}` must be finite; {places}"
        call = functools.partial(_with_policy, name)
        yield Refusal(f"{name} of what is not finite", FloatingPointError, message, call)


def _with_policy(name: str, x: Any, library: Library) -> Any:
    tree = {
        "a": x,
        "b": library.array([math.nan, 1.0], "float32"),
        "c": library.array([2.0, -math.inf], "float32"),
    }
    if name == "adaptive_grad_clip":
        return agclip.adaptive_grad_clip(tree, tree, unit_axes="in_out", nonfinite="error")
    return getattr(agclip, name)(tree, 1.0, nonfinite="error")


def _by_norm(x: Any, **options: Any) -> Any:
    return agclip.clip_by_norm(x, 1.0, **options)


def _agc(x: Any, params: Any, unit_axes: Any = "in_out", **options: Any) -> Any:
    return agclip.adaptive_grad_clip({"w": x}, params, unit_axes=unit_axes, **options)


# One call a row reads as the table it is.
# fmt: off
_OTHERS = (
    Refusal("value bounds that cross", ValueError, "clip_value_min. must be <= .clip_value_max",
            lambda x, _: agclip.clip_by_value(x, 1.0, -1.0)),
    Refusal("a value bound of NaN", ValueError, "clip_value_max. must be a number",
            lambda x, _: agclip.clip_by_value(x, -1.0, math.nan)),
    Refusal("a string as value bound", TypeError, "must be a real number",
            lambda x, _: agclip.clip_by_value(x, *_WORDS)),
    Refusal("a float bound on integers", TypeError, r"clip_value_max. must be an integer.*t\[0\]",
            lambda _, lib: agclip.clip_by_value([lib.array([1], "int32")], -1, 1.5)),
    Refusal("a value bound that enlarges", ValueError, r"broadcast to every leaf.*\(3, 1\)",
            lambda x, lib: agclip.clip_by_value(x, lib.array([1, 2, 3], "float32", (3, 1)), 9.0)),
    Refusal("a loss scale on integers", TypeError, "loss_scale. must be None for integer arrays",
            lambda _, lib: agclip.clip_by_value(lib.array([1], "int32"), 0, 1, loss_scale=2.0)),
    Refusal("an axis that does not exist", ValueError, "axes. must name axes of the .* at t",
            lambda x, _: agclip.clip_by_norm(x, 1.0, 1)),
    Refusal("an axis named twice", ValueError, "axes. must name every axis once",
            lambda x, _: agclip.clip_by_norm(x, 1.0, [0, -1])),
    Refusal("axes that are no integers", TypeError, "axes. must be an integer",
            lambda x, _: _by_norm(x, axes=0.5)),
    Refusal("an order of zero", ValueError, "ord. must be a number > 0",
            lambda x, _: agclip.global_norm(x, 0)),
    Refusal("an order that is a string", TypeError, "ord. must be a number > 0",
            lambda x, _: _by_norm(x, ord="fro")),
    Refusal("an order that no bits follow from", ValueError, "ord. must be 1, 2 or inf",
            lambda x, _: agclip.global_norm(x, 3, reproducible=True)),
    Refusal("order 1 of complex leaves, reproducibly", ValueError, "ord. must be 2",
            lambda _, lib: agclip.global_norm(lib.array([1], "complex64"), 1, reproducible=True)),
    Refusal("a loss scale of zero", ValueError, "loss_scale. must be a finite number > 0",
            lambda x, _: agclip.clip_by_rms(x, 1.0, loss_scale=0.0)),
    Refusal("an unknown policy", ValueError, "nonfinite. must be one of",
            lambda x, _: _by_norm(x, nonfinite="ignore")),
    Refusal("a negative use_norm", ValueError, "use_norm. must be a norm",
            lambda x, _: agclip.clip_by_global_norm(x, 1.0, -1.0)),
    Refusal("params of another structure", ValueError, "params. must have the structure",
            lambda x, _: _agc(x, {"v": x})),
    Refusal("params of another shape", ValueError, r"params. must have the shapes.*params\['w'\]",
            lambda x, lib: _agc(x, {"w": lib.array([1.0], "float32")})),
    Refusal("an unknown layout", ValueError, "unit_axes. must be",
            lambda _, lib: _agc(m := lib.array([1.0], "float32", (1, 1)), {"w": m}, "rows")),
    Refusal("a negative eps", ValueError, "eps. must be a number >= 0",
            lambda x, _: _agc(x, {"w": x}, eps=-1.0)),
    Refusal("examples of two lengths", ValueError, r"one leading axis.*grads\[1\]",
            lambda x, lib: agclip.clip_per_example([x, lib.array([1.0], "float32")], 1.0)),
    Refusal("an example without axes", ValueError, r"one leading axis.*shape \(\) at grads",
            lambda _, lib: agclip.clip_per_example(lib.array([1.0], "float32", ()), 1.0)),
)
# fmt: on

REFUSALS = (*_wrong_leaves(), *_wrong_bounds(), *_not_finite(), *_OTHERS)
