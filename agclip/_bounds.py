"""Bounds of a value clip: checked, and fitted to the dtype and shape of each leaf."""

from __future__ import annotations

import math
import numbers
from typing import Any

from agclip import _foreign, _registry
from agclip._dtypes import Kind, kind_of
from agclip._kernels import cast
from agclip._leaves import Leaves
from agclip._tree import describe
from agclip._typing import Array

_FAMILIES = ("real", "integer")
_NAMES = ("clip_value_min", "clip_value_max")


def check_numbers(low: Any, high: Any) -> None:
    """Check bounds that are Python numbers: neither NaN, and in order."""
    for name, bound in zip(_NAMES, (low, high), strict=True):
        if isinstance(bound, numbers.Real) and bound != bound:
            msg = f"`{name}` must be a number, or None for no bound; got nan."
            raise ValueError(msg)
    if isinstance(low, numbers.Real) and isinstance(high, numbers.Real) and low > high:
        raise ValueError(_crossed(f"{low} and {high}"))


def _crossed(found: str) -> str:
    return f"`clip_value_min` must be <= `clip_value_max`; got {found}. Swap them?"


def of_leaves(name: str, bound: Any, leaves: Leaves, *, copy: bool) -> list[Array | None]:
    """Return a bound for each leaf, in its dtype; None where there is no bound.

    With `copy` a bound that is an array is copied: it may be one of the leaves to be overwritten.

    Raises:
        TypeError: If the bound is no real number or array of the leaves' library, or not an integer
            while a leaf is.
        ValueError: If the bound would enlarge a leaf.
    """
    if bound is None:
        return [None] * len(leaves.arrays)
    if isinstance(bound, numbers.Real) and not isinstance(bound, bool):
        return [_number(name, bound, leaves, i) for i in range(len(leaves.arrays))]
    owner = _registry.resolve(bound)
    if owner is None or owner.refuse(bound) or kind_of(bound.dtype).family not in _FAMILIES:
        dense = owner is not None and not owner.refuse(bound)
        found = f"an array of {kind_of(bound.dtype).name}" if dense else describe(bound)
        msg = f"`{name}` must be a real number, an array of them, or None; got {found}."
        raise TypeError(msg)
    if owner != leaves.backend and _foreign.converts():
        bound = _foreign.converted(bound, name, name)
    elif owner != leaves.backend:
        msg = (
            f"`{name}` must be a number or an array of {leaves.backend.name}, as the leaves are; "
            f"got one of {owner.name}. Convert it first."
        )
        raise TypeError(msg)
    return [_array(name, bound, leaves, i, copy=copy) for i in range(len(leaves.arrays))]


def _number(name: str, bound: Any, leaves: Leaves, i: int) -> Array:
    kind, leaf = leaves.kinds[i], leaves.arrays[i]
    integral = isinstance(bound, numbers.Integral)
    _require_kind(name, "an integer" if integral else "a float", integral, leaves, i)
    value: Any = bound
    if -math.inf < bound < math.inf:
        value = min(max(bound, kind.lowest), kind.largest)
    device = leaves.backend.device(leaf)
    where = {} if device is None else {"device": device}
    value = float(value) if kind.family == "real" else int(value)
    made: Array = leaves.backend.xp.asarray(value, dtype=leaf.dtype, **where)
    return made


def _array(name: str, bound: Any, leaves: Leaves, i: int, *, copy: bool) -> Array:
    kind, leaf, xp = leaves.kinds[i], leaves.arrays[i], leaves.backend.xp
    given = kind_of(bound.dtype)
    _require_kind(name, f"an array of {given.name}", given.family == "integer", leaves, i)
    lengths = zip(reversed(bound.shape), reversed(leaf.shape), strict=False)
    if bound.ndim > leaf.ndim or any(b not in (1, n) for b, n in lengths):
        msg = (
            f"`{name}` must broadcast to every leaf; got shape {tuple(bound.shape)} for "
            f"{tuple(leaf.shape)} at {leaves.path(i)}. A bound never enlarges a leaf."
        )
        raise ValueError(msg)
    fitted = _saturated(xp, bound, given, kind)
    # A cast in the standard always copies.
    return xp.astype(fitted, leaf.dtype) if copy else cast(xp, fitted, leaf.dtype)


def _saturated(xp: Any, bound: Any, given: Kind, kind: Kind) -> Any:
    """Return the bound with finite entries brought into the range of a kind, before a cast."""
    if kind.lowest <= given.lowest and given.largest <= kind.largest:
        return bound
    low, high = max(given.lowest, kind.lowest), min(given.largest, kind.largest)
    finite = xp.isfinite(bound)
    bound = xp.where(finite & (bound > high), xp.full_like(bound, high), bound)
    return xp.where(finite & (bound < low), xp.full_like(bound, low), bound)


def _require_kind(name: str, found: str, integral: bool, leaves: Leaves, i: int) -> None:
    if leaves.kinds[i].family == "integer" and not integral:
        msg = (
            f"`{name}` must be an integer for {leaves.kinds[i].name} at {leaves.path(i)}; got "
            f"{found}. Round it, convert the leaf, or pass None for no bound."
        )
        raise TypeError(msg)


def check_order(leaves: Leaves, lows: list[Array | None], highs: list[Array | None]) -> None:
    """Check bounds that are arrays, if they can be read for nothing."""
    backend, xp = leaves.backend, leaves.backend.xp
    for low, high in {(id(a), id(b)): (a, b) for a, b in zip(lows, highs, strict=True)}.values():
        pair = zip(_NAMES, (low, high), strict=True)
        readable = [(n, b) for n, b in pair if b is not None and _free(backend.access(b))]
        for name, bound in readable:
            if bool(xp.any(bound != bound)):
                msg = f"`{name}` must not hold NaN; got an array that does."
                raise ValueError(msg)
        if len(readable) == 2 and bool(xp.any(readable[0][1] > readable[1][1])):
            raise ValueError(_crossed("arrays that cross"))


def _free(access: str) -> bool:
    return access in ("free", "graph")


def require_real(leaves: Leaves) -> None:
    """Raise if a leaf is an integer array: it cannot be divided by a loss scale."""
    for i, kind in enumerate(leaves.kinds):
        if kind.family == "integer":
            msg = (
                f"`loss_scale` must be None for integer arrays; got one for {kind.name} at "
                f"{leaves.path(i)}. Convert the leaf, or divide it yourself."
            )
            raise TypeError(msg)
