"""Bounds of a value clip: checked, and fitted to the dtypes of the leaves."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip import _checks
from agclip._backends import batch, devices, kernels, registry, shapes
from agclip._backends.backend import Backend
from agclip._backends.dtypes import Kind, kind_of
from agclip._trees import foreign
from agclip._trees.leaves import Leaves
from agclip._typing import Array, DType

_FAMILIES = ("real", "integer")
_NAMES = ("clip_value_min", "clip_value_max")


def readable(low: Any, high: Any, leaves: Leaves) -> tuple[Any, Any]:
    """Return bounds for leaves on a device as numbers where they lie on the host.

    Beside the leaves they would have to be copied to their device first, and the host waits for
    that.
    """
    if leaves.access != "sync":
        return low, high
    return _read(low, leaves.backend), _read(high, leaves.backend)


def _read(bound: Any, backend: Backend) -> Any:
    if isinstance(bound, numbers.Real) or bound is None:
        return bound
    bound, owner = registry.resolved(bound)
    if owner != backend or backend.refuse(bound) or bound.ndim != 0:
        return bound
    family = kind_of(bound.dtype).family
    if family not in _FAMILIES or backend.access(bound) != "free":
        return bound
    return int(bound) if family == "integer" else float(bound)


def check_numbers(low: Any, high: Any) -> None:
    """Check bounds that are Python numbers: neither NaN, and in order."""
    for name, bound in zip(_NAMES, (low, high), strict=True):
        if isinstance(bound, numbers.Real) and bound != bound:
            _checks.refuse(name, ValueError, "a number, or None for no bound", bound)
    if isinstance(low, numbers.Real) and isinstance(high, numbers.Real) and low > high:
        raise ValueError(_crossed(f"{low} and {high}"))


def _crossed(found: str) -> str:
    return f"`clip_value_min` must be <= `clip_value_max`; got {found}. Swap them?"


class Groups(NamedTuple):
    """Leaves grouped by dtype and device: each group has a bound of its own."""

    first: list[int]
    """The position of the first leaf of each group."""
    group: list[int]
    """The group of each leaf."""

    def spread(self, values: Sequence[Any]) -> list[Any]:
        """Return the value of its group for each leaf."""
        if len(values) == 1:
            return [values[0]] * len(self.group)
        return [values[k] for k in self.group]


_LOWEST = {"float16": -13}
"""The exponents of the smallest normal numbers, as `frexp` has them; -125 if not among these."""


def grouped(leaves: Leaves) -> Groups:
    """Group leaves by dtype and device."""
    backend, arrays = leaves.backend, leaves.arrays
    if batch.access(arrays) == "free":
        # Ordinary arrays of the host: a dtype of theirs is a kind.
        if len(batch.kinds(arrays)) == 1:
            return Groups([0], [0] * len(arrays))
        backwards = reversed(range(len(arrays)))
        positions = dict(zip(reversed(leaves.kinds), backwards, strict=True))
        places = {kind: k for k, kind in enumerate(positions)}
        return Groups(list(positions.values()), [places[kind] for kind in leaves.kinds])
    first: list[int] = []
    group: list[int] = []
    homes: list[Any] = []
    known: dict[DType, list[int]] = {}
    for i, leaf in enumerate(arrays):
        device, alike = backend.device(leaf), known.setdefault(leaf.dtype, [])
        # The standard lets devices be compared, but not hashed.
        found = [k for k in alike if homes[k] == device]
        if not found:
            found = [len(first)]
            alike += found
            first.append(i)
            homes.append(device)
        group.append(found[0])
    return Groups(first, group)


def of_groups(
    name: str, bound: Any, leaves: Leaves, groups: Groups, *, copy: bool
) -> list[Array | None]:
    """Return a bound for each group of leaves, in its dtype; None where there is no bound.

    With `copy` a bound that is an array is copied: it may be one of the leaves to be overwritten.

    Raises:
        TypeError: If the bound is no real number or array of the leaves' library, or not an integer
            while a leaf is.
        ValueError: If the bound would enlarge a leaf.
    """
    if bound is None:
        return [None] * len(groups.first)
    if _checks.is_number(bound):
        for i in () if isinstance(bound, numbers.Integral) else sorted(groups.first):
            if leaves.kinds[i].family == "integer":
                raise TypeError(_not_integral(name, "a float", leaves, i))
        return [_number(bound, leaves, i) for i in groups.first]
    bound, owner = registry.resolved(bound)
    if owner is None or owner.refuse(bound) or kind_of(bound.dtype).family not in _FAMILIES:
        dense = owner is not None and not owner.refuse(bound)
        found = f"an array of {kind_of(bound.dtype).name}" if dense else _checks.describe(bound)
        msg = f"`{name}` must be a real number, an array of them, or None; got {found}."
        raise TypeError(msg)
    if owner != leaves.backend and foreign.converts():
        bound = foreign.converted(bound, name, name)
    elif owner != leaves.backend:
        msg = (
            f"`{name}` must be a number or an array of {leaves.backend.name}, as the leaves are; "
            f"got one of {owner.name}. Convert it first."
        )
        raise TypeError(msg)
    for i in range(len(leaves.arrays)):
        _check_array(name, bound, leaves, i)
    return [_fitted(bound, leaves, i, copy=copy) for i in groups.first]


def _number(bound: Any, leaves: Leaves, i: int) -> Array:
    kind, leaf, backend = leaves.kinds[i], leaves.arrays[i], leaves.backend
    value = _in_range(bound, kind)
    if leaves.access != "never" or not devices.compiled_around(backend, leaf):
        device = backend.device(leaf)
        return backend.at(leaf, kernels.number, backend.xp, value, leaf.dtype, device)
    dtype = backend.acc_dtype(backend.xp, leaf) if kind.family == "real" else leaf.dtype
    made = devices.constant(backend, value, dtype, leaf)
    return kernels.cast(backend.xp, made, leaf.dtype)


def _in_range(bound: Any, kind: Kind) -> float:
    """Return a bound as a number in the range of a kind: a float, or an int for integers."""
    # Not as it is: a narrow scalar of NumPy's overflows when it is compared with a wide number.
    value = int(bound) if isinstance(bound, numbers.Integral) else _checks.as_float(bound)
    if abs(value) < math.inf or not kind.infinite:
        value = min(max(value, kind.lowest), kind.largest)
    return float(value) if kind.family == "real" else int(value)


def rounded(bound: Any, kind: Kind) -> float:
    """Return a bound as the nearest number of a real kind, a float; ties go to the even one."""
    value = _in_range(bound, kind)
    if value == 0 or math.isinf(value) or kind.precision == 53:
        return value
    exponent = max(math.frexp(value)[1], _LOWEST.get(kind.name, -125)) - kind.precision
    return math.ldexp(round(math.ldexp(value, -exponent)), exponent)


def _check_array(name: str, bound: Any, leaves: Leaves, i: int) -> None:
    leaf, given = leaves.arrays[i], kind_of(bound.dtype)
    if leaves.kinds[i].family == "integer" and given.family != "integer":
        raise TypeError(_not_integral(name, f"an array of {given.name}", leaves, i))
    if not _may_broadcast(shapes.known_shape(bound), shapes.known_shape(leaf)):
        msg = (
            f"`{name}` must broadcast to every leaf; got shape {tuple(bound.shape)} for "
            f"{tuple(leaf.shape)} at {leaves.path(i)}. A bound never enlarges a leaf."
        )
        raise ValueError(msg)


def _may_broadcast(bound: tuple[Any, ...] | None, leaf: tuple[Any, ...] | None) -> bool:
    """Tell whether a bound enlarges no leaf, as far as their shapes are known."""
    if bound is None or leaf is None:
        return True
    pairs = zip(reversed(bound), reversed(leaf), strict=False)
    return len(bound) <= len(leaf) and all(None in (b, n) or b in (1, n) for b, n in pairs)


def _fitted(bound: Any, leaves: Leaves, i: int, *, copy: bool) -> Array:
    leaf, backend = leaves.arrays[i], leaves.backend
    xp, bound = backend.xp, devices.to_device(backend, bound, backend.device(leaf))
    fitted = saturated(xp, bound, kind_of(bound.dtype), leaves.kinds[i])
    # A cast in the standard always copies.
    return xp.astype(fitted, leaf.dtype) if copy else kernels.cast(xp, fitted, leaf.dtype)


def saturated(xp: Any, bound: Any, given: Kind, kind: Kind) -> Any:
    """Return the bound with elements brought into the range of a kind, before a cast.

    Infinities stay where the kind has them.
    """
    fits = kind.lowest <= given.lowest and given.largest <= kind.largest
    if fits and (kind.infinite or not given.infinite):
        return bound
    bound = kernels.computable(xp, bound)
    low, high = max(given.lowest, kind.lowest), min(given.largest, kind.largest)
    if given.family == "integer":  # the standard compares integers with integers alone
        low, high = math.ceil(low), math.floor(high)
    moved = xp.isfinite(bound) if kind.infinite else bound == bound
    bound = xp.where(moved & (bound > high), xp.full_like(bound, high), bound)
    return xp.where(moved & (bound < low), xp.full_like(bound, low), bound)


def _not_integral(name: str, found: str, leaves: Leaves, i: int) -> str:
    return (
        f"`{name}` must be an integer for {leaves.kinds[i].name} at {leaves.path(i)}; got "
        f"{found}. Round it, convert the leaf, or pass None for no bound."
    )


def check_order(leaves: Leaves, lows: list[Array | None], highs: list[Array | None]) -> None:
    """Check the bounds of each group, if they can be read for nothing."""
    backend, xp = leaves.backend, leaves.backend.xp
    for low, high in zip(lows, highs, strict=True):
        pair = zip(_NAMES, (low, high), strict=True)
        readable = [
            (n, kernels.computable(xp, b))
            for n, b in pair
            if b is not None and backend.access(b) in ("free", "graph")
        ]
        for name, bound in readable:
            if bool(xp.any(bound != bound)):
                msg = f"`{name}` must not hold NaN; got an array that does."
                raise ValueError(msg)
        if len(readable) == 2 and bool(xp.any(readable[0][1] > readable[1][1])):
            raise ValueError(_crossed("arrays that cross"))


def require_real(leaves: Leaves) -> None:
    """Raise if a leaf is an integer array: it cannot be divided by a loss scale."""
    for i, kind in enumerate(leaves.kinds):
        if kind.family == "integer":
            msg = (
                f"`loss_scale` must be None for integer arrays; got one for {kind.name} at "
                f"{leaves.path(i)}. Convert the leaf, or divide it yourself."
            )
            raise TypeError(msg)
