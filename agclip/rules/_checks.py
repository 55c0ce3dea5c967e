"""The numbers a rule is made with: checked when it is made, as far as they can be read.

Thresholds may be arrays, traced ones too: these are checked where they are used.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from agclip import _checks
from agclip._backends.registry import resolve
from agclip._checks import describe
from agclip._clipping import arguments
from agclip.distributed._links import links
from agclip.distributed._replicas import unsaid

choice, count, switch = _checks.choice, _checks.count, _checks.flag
number = functools.partial(_checks.number, kind=_checks.NONNEGATIVE, none=_checks.UNBOUNDED)
fraction = functools.partial(_checks.number, kind=_checks.FRACTION)
order = functools.partial(_checks.order, "ord")
percentage = functools.partial(_checks.number, kind=_checks.PERCENTAGE)


def _later(value: Any) -> bool:
    """Tell whether a value is an array."""
    return not _checks.is_number(value) and resolve(value) is not None


def real(name: str, value: Any, wanted: str) -> None:
    """Check that a value is a number or an array."""
    if not (_checks.is_number(value) or _later(value)):
        _checks.refuse(name, TypeError, wanted, value)


def bound(name: str, value: Any, none: str = "no clipping") -> None:
    """Check a bound: a number >= 0, or None, which stands for `none`."""
    if not _later(value):
        _checks.number(name, value, _checks.NONNEGATIVE, f"None for {none}")


def positive(name: str, value: Any, none: str = "") -> None:
    """Check a finite number > 0; None is allowed where `none` says so, and an array then."""
    if not (none and _later(value)):
        _checks.number(name, value, _checks.POSITIVE, none)


def flag(name: str, value: Any) -> None:
    """Check a bool; None is allowed."""
    if value is not None:
        arguments.flag(name, value)


def policy(value: Any) -> None:
    """Check the name of a policy for NaN and infinities; None is allowed."""
    if value is not None:
        _checks.choice("nonfinite", value, arguments.POLICIES)


def ranks(comm: Any, replicas: Any, *, joint: bool) -> None:
    """Check who else holds gradients, for a rule of a global norm or another one."""
    if comm is not None and not joint:
        msg = (
            f"`comm` must be None for rules without a global norm, which clip leaves where they "
            f"are; got {_checks.describe(comm)}."
        )
        raise ValueError(msg)
    links(comm)
    if comm is None and not unsaid(replicas):
        msg = (
            f"`replicas` must come with a `comm`, on whose ranks leaves are held; got "
            f"{_checks.describe(replicas)} alone."
        )
        raise ValueError(msg)


def begun(state: Any) -> Mapping[str, Any] | None:
    """Return a state as the dict that it is; None for one that is not made yet, `()`.

    Raises:
        TypeError: If it is neither.
    """
    if type(state) is dict or isinstance(state, Mapping):
        return state
    if isinstance(state, tuple) and not state:
        return None
    msg = (
        f"`state` must be what init(params) or the last step of this rule returned; got "
        f"{describe(state)}. Begin with init(params)."
    )
    raise TypeError(msg)
