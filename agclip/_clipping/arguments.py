"""What callers pass to functions and rules: numbers, flags and options, arrays among them.

Plain values are judged by `agclip._checks`; here are 0-d arrays, settings and what leaves allow.
"""

from __future__ import annotations

import math
from typing import Any, get_args

from agclip import _checks, config
from agclip._backends import registry
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._checks import Kind, as_float
from agclip._clipping.plan import Limits, Plan
from agclip._trees import foreign
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Axes, NonFinite, Scalar
from agclip.distributed._joined import ranks_of

_DOUBLE = 53
_NUMERIC = ("real", "integer")
POLICIES: tuple[NonFinite, ...] = get_args(NonFinite)


def threshold(name: str, value: Any, leaves: Leaves) -> Scalar | None:
    """Check a bound that must be a number >= 0; None and infinity mean "no bound".

    Returns:
        A float where the value can be read for nothing, else the 0-d array; None for None.

    Raises:
        TypeError: If the value is neither a number nor a 0-d array of the leaves' library.
        ValueError: If it is not a scalar, or can be read and is negative or NaN.
    """
    if value is None or (type(value) is float and value >= 0):
        return value
    return _number(name, value, leaves, _checks.NONNEGATIVE, _checks.UNBOUNDED)


def floor(name: str, value: Any, leaves: Leaves) -> Scalar:
    """Check a lower limit of norms: a number >= 0; None means none."""
    if value is None:
        return 0.0
    return _number(name, value, leaves, _checks.NONNEGATIVE, "None for no lower limit")


def positive(name: str, value: Any, leaves: Leaves) -> Scalar | None:
    """Check a number that must be finite and > 0, such as a loss scale; None means one."""
    return None if value is None else _number(name, value, leaves, _checks.POSITIVE, "None")


def given_norm(name: str, value: Any, leaves: Leaves) -> Scalar:
    """Check a norm that the caller has computed: a number >= 0, infinity and NaN included."""
    return _number(name, value, leaves, _checks.NORM, "")


def _number(name: str, value: Any, leaves: Leaves, kind: Kind, none: str) -> Scalar:
    if type(value) is float and kind.holds(value):
        return value
    backend = leaves.backend
    number, readable = _scalar(name, value, backend, kind, none)
    if readable and not _holds(kind, number, backend):
        _checks.refuse(name, ValueError, _checks.either(kind.must, none), number)
    return number


def _holds(kind: Kind, number: Scalar, backend: Backend) -> bool:
    if isinstance(number, float):
        return bool(kind.holds(number))
    with backend.context():
        return bool(kind.holds(number))


def _scalar(name: str, value: Any, backend: Backend, kind: Kind, none: str) -> tuple[Scalar, bool]:
    """Return a number for the arithmetic, and whether it can be compared for nothing."""
    if _checks.is_number(value):
        return as_float(value), True
    if isinstance(value, (list, tuple)):
        msg = f"`{name}` must be a scalar; got a {type(value).__name__}."
        raise ValueError(msg)
    value, owner = registry.resolved(value)
    dense = owner is not None and not owner.refuse(value)
    if owner is None or not dense or kind_of(value.dtype).family not in _NUMERIC:
        must = _checks.either(kind.must, none)
        if dense:
            msg = f"`{name}` must be {must}; got an array of {kind_of(value.dtype).name}."
            raise TypeError(msg)
        _checks.refuse(name, TypeError, must, value)
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


def options(
    leaves: Leaves,
    bound: Any,
    order: Any = 2,
    nonfinite: Any = None,
    strict: Any = None,
    reproducible: Any = None,
    *,
    joint: bool = False,
    axes: tuple[Axes, ...] | None = None,
    weights: tuple[Scalar, ...] | None = None,
    record: bool = False,
    limits: Limits | None = None,
    linked: bool = True,
) -> Plan:
    """Check the options that functions and rules share, and return the plan they make.

    Where types tell that leaves are cut over processes, the plan says so.

    Args:
        leaves: The leaves of the call, which decide what can be kept.
        bound: The bound of the call; None for none.
        order: The order of its norm.
        nonfinite: The name of a policy for NaN and infinities; None for what is configured.
            Without a bound "skip" takes the place of "propagate": nothing is clipped.
        strict: Whether the exact norm of what comes out has to be within the bound; None likewise.
        reproducible: Whether norms have to have the same bits everywhere; None likewise.
        joint: As in the plan; where it is so, parameters among the leaves are warned of.
        axes: As in the plan, and so are the others.
        weights: Likewise.
        record: Likewise.
        limits: Likewise.
        linked: Whether types tell over which processes leaves are cut; else the caller does.

    Raises:
        TypeError: If `order` is no number, or `strict` or `reproducible` no flag.
        ValueError: If `order` is not positive, there is no such policy, a strict bound cannot be
            kept for a leaf, or there is no reproducible norm of the order.
        NotImplementedError: If there is none on a device, which has no float64.
    """
    if joint and leaves.misplaced is not None:
        leaves.warn_of_parameters()
    # The default is not worth a call of each check.
    usual = type(order) in (int, float) and order == 2
    order = 2.0 if usual else _checks.order("ord", order)
    settings = config.current()
    keep = settings.strict if strict is None else strict
    if keep is not False and flag("strict", keep):
        _require_strict(leaves, settings if strict is None else None)
    policy = settings.nonfinite if nonfinite is None else nonfinite
    if nonfinite is not None:
        _checks.choice("nonfinite", nonfinite, POLICIES)
    if bound is None and policy == "propagate":
        policy = "skip"
    same = settings.reproducible if reproducible is None else reproducible
    if same is not False and flag("reproducible", same):
        _require_reproducible(leaves, order, settings if reproducible is None else None)
    made = Plan(joint, order, axes, weights, bool(keep), policy, bool(same), record, limits)
    if leaves.cuts is None or axes is not None or not linked:
        return made
    return made._replace(ranks=ranks_of(leaves, None, None))


def flag(name: str, value: Any) -> bool:
    """Check a flag; a bool of an array library, such as NumPy's, is one if reading it is free."""
    if isinstance(value, bool):
        return value
    value, owner = registry.resolved(value)
    if owner is None or owner.refuse(value) or not _readable_flag(owner, value):
        _checks.refuse(name, TypeError, _checks.OPTIONAL_FLAG, value)
    return bool(value)


def _readable_flag(owner: Backend, value: Array) -> bool:
    return value.ndim == 0 and kind_of(value.dtype).name == "bool" and owner.access(value) == "free"


def _said(settings: config.Settings | None, key: str) -> str:
    return "" if settings is None else f" ({settings.source(key)})"


def _require_strict(leaves: Leaves, settings: config.Settings | None) -> None:
    """Raise if a leaf of a half type is clipped in float32, in a library that lacks its dtype."""
    for i, original in enumerate(leaves.originals or ()):
        if hasattr(original, "dtype") and kind_of(original.dtype) != leaves.kinds[i]:
            msg = (
                f"`strict` must be False where {leaves.backend.name} lacks the dtype of a "
                f"leaf{_said(settings, 'strict')}; got {kind_of(original.dtype).name} at "
                f"{leaves.path(i)}. Convert it to float32, or leave it out."
            )
            raise ValueError(msg)


def _require_reproducible(leaves: Leaves, order: float, settings: config.Settings | None) -> None:
    """Raise if there is no reproducible norm of an order, or none on the device of a leaf."""
    if order not in (1, 2, math.inf):
        msg = (
            f"`ord` must be 1, 2 or inf with `reproducible`{_said(settings, 'reproducible')}; got "
            f"{order}. No library rounds other powers correctly."
        )
        raise ValueError(msg)
    for i, kind in enumerate(leaves.kinds if order != 2 else ()):
        if kind.family == "complex":
            msg = (
                f"`ord` must be 2 with `reproducible`{_said(settings, 'reproducible')} for complex "
                f"leaves; got {order} for {leaves.path(i)}. Libraries differ in the last bit of "
                f"|z|."
            )
            raise ValueError(msg)
    backend = leaves.backend
    for i, leaf in enumerate(() if leaves.access == "free" else leaves.arrays):
        if kind_of(backend.acc_dtype(backend.xp, leaf)).precision != _DOUBLE:
            msg = (
                f"`reproducible` must be False on devices without float64"
                f"{_said(settings, 'reproducible')}; got an array on such a device at "
                f"{leaves.path(i)}. Move the arrays to the CPU, or leave it out."
            )
            raise NotImplementedError(msg)
