"""What to do about objects that trees cannot hold, for error messages."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, NoReturn

_ADVICE = "Take it out, or see agclip.register_container."


def refuse_depth(name: str) -> NoReturn:
    """Raise the error on a tree that is nested more deeply than Python can follow."""
    msg = (
        f"`{name}` must not hold itself, nor be nested more deeply than Python's recursion limit "
        f"of {sys.getrecursionlimit()} allows; got a tree that is. Pass a flat list of its arrays."
    )
    raise ValueError(msg) from None


def way_in(found: Any) -> str:
    """Return what to do about an object that is no container: how to register one with fields."""
    if isinstance(found, type):
        return _ADVICE
    if dataclasses.is_dataclass(found):
        fields = [field.name for field in dataclasses.fields(found)]
    else:
        fields = [field.name for field in getattr(type(found), "__attrs_attrs__", ())]
    if not fields:
        return _ADVICE
    cls = type(found).__name__
    children = ", ".join(f"x.{field}" for field in fields) + ("," if len(fields) == 1 else "")
    return (
        f"Say which fields hold arrays: agclip.register_container({cls}, lambda x: "
        f"(({children}), None), lambda _, new: {cls}(*new))."
    )
