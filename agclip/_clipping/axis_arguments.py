"""Axes that callers name, checked and made non-negative."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

from agclip._trees.leaves import Leaves
from agclip._typing import Axes, UnitAxes


def of_leaves(axes: Any, leaves: Leaves) -> tuple[Axes, ...] | None:
    """Return the axes that the argument `axes` names in each leaf; None for all of each."""
    if axes is None:
        return None
    leaves.require_dense("where norms are taken along axes")
    leaves.require_axes()
    axes = tuple(axes) if isinstance(axes, Iterator) else axes
    return tuple(
        normalise("axes", axes, leaf.ndim, path)
        for leaf, path in zip(leaves.arrays, leaves.paths(), strict=True)
    )


def units(unit_axes: UnitAxes, leaves: Leaves) -> tuple[Axes, ...]:
    """Return the axes over which the norm of one unit of each leaf is taken."""
    leaves.require_dense("where norms are taken along axes")
    leaves.require_axes()
    pairs = zip(leaves.arrays, leaves.paths(), strict=True)
    return tuple(unit(unit_axes, leaf, path) for leaf, path in pairs)


def normalise(name: str, axes: Any, ndim: int, path: str) -> tuple[int, ...]:
    """Return axes as a tuple of distinct numbers in range(ndim), in increasing order.

    Raises:
        TypeError: If `axes` is neither an integer nor a sequence of integers.
        ValueError: If an axis is out of range or named twice.
    """
    items: list[Any] = list(axes) if isinstance(axes, Iterable) else [axes]
    if not all(hasattr(axis, "__index__") and not isinstance(axis, bool) for axis in items):
        msg = f"`{name}` must be an integer or a sequence of integers; got {axes!r}."
        raise TypeError(msg)
    given = [operator.index(axis) for axis in items]
    found = [axis + ndim if axis < 0 else axis for axis in given]
    if any(not 0 <= axis < ndim for axis in found):
        msg = f"`{name}` must name axes of the {ndim}-d array at {path}; got {axes!r}."
        raise ValueError(msg)
    if len(set(found)) != len(found):
        msg = f"`{name}` must name every axis once; got {axes!r}."
        raise ValueError(msg)
    return tuple(sorted(found))


def unit(unit_axes: UnitAxes, leaf: Any, path: str) -> Axes:
    """Return the axes over which the norm of one unit of a leaf is taken; None for all.

    A scalar or a vector (a bias, a gain) is one unit, whatever the layout.
    """
    spec: Any = unit_axes(path, leaf) if callable(unit_axes) else unit_axes
    if spec is None and callable(unit_axes):
        return None
    if spec is None or isinstance(spec, str):
        if spec not in ("out_in", "in_out"):
            msg = (
                '`unit_axes` must be "out_in", "in_out", axes, or a function of (path, leaf) that '
                f"returns one of these; got {spec!r}."
            )
            raise ValueError(msg)
        if leaf.ndim <= 1:
            return None
        return tuple(range(1, leaf.ndim) if spec == "out_in" else range(leaf.ndim - 1))
    if leaf.ndim <= 1 and not callable(unit_axes):
        return None
    return normalise("unit_axes", spec, leaf.ndim, path)


def require_examples(leaves: Leaves) -> None:
    """Raise a ValueError unless every leaf has a leading axis of the same length."""
    leaves.require_dense("where an axis is the example")
    leaves.require_axes()
    for i, leaf in enumerate(leaves.arrays):
        first = leaves.arrays[0]
        if leaf.ndim == 0 or leaf.shape[0] != first.shape[0]:
            found = f"shape {tuple(leaf.shape)} at {leaves.path(i)}"
            beside = f" beside {tuple(first.shape)} at {leaves.path(0)}" if i else ""
            msg = (
                f"`{leaves.name}` must have one leading axis, the example, of the same length in "
                f"every leaf; got {found}{beside}."
            )
            raise ValueError(msg)
