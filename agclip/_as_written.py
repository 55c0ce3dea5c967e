"""Public functions that a compiler which rewrites the source of Python calls as they are written.

Such a compiler rewrites a function and all that it calls, so that conditions on arrays become part
of the program. There is nothing to gain here, where no condition depends on a traced value, and
rewriting some hundred functions takes seconds (measured: 7.8 s for a first trace that takes 0.1 s).
"""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType
from typing import Any

MARK = "autograph_info__"
"""The attribute that says so: compilers put it on what they have rewritten already."""


def mark(objects: Iterable[Any]) -> None:
    """Mark functions, and the methods of classes; a class too if its instances are called."""
    for x in objects:
        if isinstance(x, FunctionType):
            setattr(x, MARK, {})
        elif isinstance(x, type):
            for base in x.__mro__:
                if base.__module__.partition(".")[0] == __name__.partition(".")[0]:
                    _mark_class(base)


def _mark_class(cls: type) -> None:
    for member in vars(cls).values():
        if isinstance(member, FunctionType):
            setattr(member, MARK, {})
    if "__call__" in vars(cls):
        setattr(cls, MARK, {})
