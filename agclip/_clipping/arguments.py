"""Numbers that callers pass: thresholds, norms, loss scales. Checked where they can be read."""

from __future__ import annotations

import math
import numbers
from typing import Any, cast

from agclip import config
from agclip._backends import registry
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._trees import foreign
from agclip._trees.leaves import Leaves
from agclip._trees.tree import describe
from agclip._typing import NonFinite, Scalar

_DOUBLE = 53
_NUMERIC = ("real", "integer")
_POLICIES = ("propagate", "error", "zero", "skip")


def threshold(name: str, value: Any, leaves: Leaves) -> Scalar | None:
    """Check a bound that must be a number >= 0; None and infinity mean "no bound".

    Returns:
        A float where the value can be read for nothing, else the 0-d array; None for None.

    Raises:
        TypeError: If the value is neither a number nor a 0-d array of the leaves' library.
        ValueError: If it is not a scalar, or can be read and is negative or NaN.
    """
    if value is None:
        return None
    number, readable = scalar(name, value, leaves.backend)
    if readable and not number >= 0:
        msg = f"`{name}` must be a number >= 0, or None for no clipping; got {number}."
        raise ValueError(msg)
    return number


def floor(name: str, value: Any, leaves: Leaves) -> Scalar:
    """Check a lower limit of norms: a number >= 0; None means none."""
    number, readable = scalar(name, 0.0 if value is None else value, leaves.backend)
    if readable and not number >= 0:
        msg = f"`{name}` must be a number >= 0, or None for no lower limit; got {number}."
        raise ValueError(msg)
    return number


def positive(name: str, value: Any, leaves: Leaves) -> Scalar | None:
    """Check a number that must be finite and > 0, such as a loss scale; None means one."""
    if value is None:
        return None
    number, readable = scalar(name, value, leaves.backend)
    if readable and not 0 < number < math.inf:
        msg = f"`{name}` must be a finite number > 0, or None; got {number}."
        raise ValueError(msg)
    return number


def given_norm(name: str, value: Any, leaves: Leaves) -> Scalar:
    """Check a norm that the caller has computed: a number >= 0, infinity and NaN included."""
    number, readable = scalar(name, value, leaves.backend)
    with leaves.backend.context():
        negative = readable and bool(number < 0)
    if negative:
        msg = f"`{name}` must be a norm, which is >= 0; got {number}."
        raise ValueError(msg)
    return number


def as_float(value: Any) -> float:
    """Return a real number as a float, infinite beyond the range."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def scalar(name: str, value: Any, backend: Backend) -> tuple[Scalar, bool]:
    """Return a number for the arithmetic, and whether it can be compared for nothing."""
    if type(value) is float:
        return value, True
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return as_float(value), True
    if isinstance(value, (list, tuple)):
        msg = f"`{name}` must be a scalar; got a {type(value).__name__}."
        raise ValueError(msg)
    owner = registry.resolve(value)
    if owner is None or owner.refuse(value) or kind_of(value.dtype).family not in _NUMERIC:
        dense = owner is not None and not owner.refuse(value)
        found = f"an array of {kind_of(value.dtype).name}" if dense else describe(value)
        msg = f"`{name}` must be a real number or a 0-d array; got {found}."
        raise TypeError(msg)
    if value.ndim != 0:
        msg = f"`{name}` must be a scalar; got an array of shape {tuple(value.shape)}."
        raise ValueError(msg)
    if owner.access(value) == "free":
        return float(value), True
    if owner != backend and foreign.converts():
        value = foreign.converted(value, name, name)
    elif owner != backend:
        msg = (
            f"`{name}` must be a number or a 0-d array of {backend.name}, as the leaves are; got "
            f"one of {owner.name}. Convert it first."
        )
        raise TypeError(msg)
    access = backend.access(value)
    return (float(value), True) if access == "free" else (value, access == "graph")


def check_order(value: Any) -> float:
    """Check the order of a norm: a number > 0, infinity included, which may be the word "inf"."""
    if isinstance(value, str) and value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        msg = f"`ord` must be a number > 0, such as 1, 2 or inf; got {type(value).__name__}."
        raise TypeError(msg)
    order = as_float(value)
    if not order > 0:
        msg = f"`ord` must be a number > 0, such as 1, 2 or inf; got {value}."
        raise ValueError(msg)
    return order


def policy(nonfinite: Any, bound: Scalar | None) -> NonFinite:
    """Check the name of a policy for NaN and infinities; None stands for the configured one.

    Without a bound nothing is clipped, so there is nothing to propagate.
    """
    if nonfinite is None:
        nonfinite = config.current().nonfinite
    if not isinstance(nonfinite, str) or nonfinite not in _POLICIES:
        known = ", ".join(map(repr, _POLICIES))
        msg = f"`nonfinite` must be one of {known}; got {nonfinite!r}."
        raise ValueError(msg)
    return "skip" if bound is None and nonfinite == "propagate" else cast(NonFinite, nonfinite)


def flag(name: str, value: Any) -> bool | None:
    """Check a flag: True, False, or None for what is configured.

    A bool of an array library, such as NumPy's, is one where it can be read for nothing.

    Raises:
        TypeError: If the value is anything else: a word such as "no" would count as True.
    """
    if value is None or isinstance(value, bool):
        return value
    owner = registry.resolve(value)
    dense = owner is not None and not owner.refuse(value)
    if dense and kind_of(value.dtype).name == "bool" and value.ndim == 0:
        assert owner is not None, "it is dense"
        if owner.access(value) == "free":
            return bool(value)
    found = describe(value)
    msg = f"`{name}` must be True, False, or None for what the settings say; got {found}."
    raise TypeError(msg)


def check_strict(strict: bool | None, leaves: Leaves) -> bool:
    """Check that a strict bound can be kept; None stands for what is configured.

    Raises:
        TypeError: If `strict` is no flag.
        ValueError: If a leaf of a half type is clipped in float32, in a library that lacks it.
    """
    says = ""
    strict = flag("strict", strict)
    if strict is None:
        strict = config.current().strict
        says = _said("strict") if strict else ""
    if strict:
        for i, original in enumerate(leaves.originals or ()):
            if hasattr(original, "dtype") and kind_of(original.dtype) != leaves.kinds[i]:
                msg = (
                    f"`strict` must be False where {leaves.backend.name} lacks the dtype of a "
                    f"leaf{says}; got {kind_of(original.dtype).name} at {leaves.path(i)}. Convert "
                    f"it to float32, or leave it out."
                )
                raise ValueError(msg)
    return strict


def _said(key: str) -> str:
    return f" ({config.current().source(key)})"


def check_reproducible(reproducible: bool | None, order: float, leaves: Leaves) -> bool:
    """Check that the reproducible norm exists for an order and the devices of the leaves.

    None stands for what is configured.

    Raises:
        TypeError: If `reproducible` is no flag.
        ValueError: If the order is not 1, 2 or infinity.
        NotImplementedError: If a device has no float64.
    """
    says = ""
    reproducible = flag("reproducible", reproducible)
    if reproducible is None:
        reproducible = config.current().reproducible
        says = _said("reproducible") if reproducible else ""
    if not reproducible:
        return False
    if order not in (1, 2, math.inf):
        msg = (
            f"`ord` must be 1, 2 or inf with `reproducible`{says}; got {order}. No library rounds "
            f"other powers correctly."
        )
        raise ValueError(msg)
    for i, kind in enumerate(leaves.kinds if order != 2 else ()):
        if kind.family == "complex":
            msg = (
                f"`ord` must be 2 with `reproducible`{says} for complex leaves; got {order} for "
                f"{leaves.path(i)}. Libraries differ in the last bit of |z|."
            )
            raise ValueError(msg)
    backend = leaves.backend
    for i, leaf in enumerate(() if leaves.access() == "free" else leaves.arrays):
        if kind_of(backend.wide(backend.xp, leaf)).precision != _DOUBLE:
            msg = (
                f"`reproducible` must be False on devices without float64{says}; got an array on "
                f"such a device at {leaves.path(i)}. Move the arrays to the CPU, or leave it out."
            )
            raise NotImplementedError(msg)
    return True
