"""The arguments of rules with memory as plain data: a saved state belongs to these."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

from agclip.rules._layout import layout_of
from agclip.rules._rule import Rule

_SHARED = ("nonfinite", "strict", "reproducible", "loss_scale", "options", "comm", "replicas")
"""Options of all rules: no statistic depends on them."""

_LEFT_OUT = object()


def arguments(rule: Rule) -> dict[str, Any]:
    """Return what a rule's memory was formed with; nothing for rules that remember nothing.

    Functions and arrays are left out: they cannot be compared.
    """
    if not layout_of(rule):
        return {}
    fields = dataclasses.fields(rule)  # type: ignore[arg-type]
    names = [one.name for one in fields if one.compare and one.name not in _SHARED]
    found = ((name, _plain(getattr(rule, name))) for name in names)
    return {name: value for name, value in found if value is not _LEFT_OUT}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Rule):
        return {"rule": type(value).__name__, **arguments(value)}
    return _LEFT_OUT


def differences(own: Any, saved: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield where saved arguments differ from a rule's own, with both; what only one has is equal.

    Arguments that another version of agclip adds or drops are no difference.
    """
    if isinstance(own, Mapping) and isinstance(saved, Mapping):
        for key in own.keys() & saved.keys():
            yield from differences(own[key], saved[key], f"{path}[{key!r}]")
    elif isinstance(own, list) and isinstance(saved, (list, tuple)) and len(own) == len(saved):
        for i, (one, other) in enumerate(zip(own, saved, strict=True)):
            yield from differences(one, other, f"{path}[{i}]")
    elif own != saved:
        yield path, own, saved


def check_same(own: Mapping[str, Any], saved: Any) -> None:
    """Raise unless saved arguments are those of a clipper's rule.

    Raises:
        TypeError: If they are no dict.
        ValueError: If one differs.
    """
    if not isinstance(saved, Mapping):
        msg = f"`state_dict['arguments']` must be a dict; got {type(saved).__name__}."
        raise TypeError(msg)
    for path, wanted, found in differences(own, saved, "state_dict['arguments']"):
        msg = (
            f"`{path}` must be {wanted!r}, as in the rule of this clipper; got {found!r}. Make the "
            f"clipper with that argument, or take 'arguments' out of the data to go on with this "
            f"one."
        )
        raise ValueError(msg)
