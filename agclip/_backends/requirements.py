"""The functions of the Python Array API standard that agclip calls, and namespaces without some."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from agclip._backends.backend import Backend
from agclip._typing import Namespace

FUNCTIONS = (
    "__array_namespace_info__", "abs", "all", "any", "arange", "asarray", "astype",
    "broadcast_to", "concat", "equal", "floor", "full", "full_like", "imag", "isfinite",
    "isinf", "isnan", "less_equal", "logical_not", "max", "maximum", "min", "minimum",
    "not_equal", "ones", "ones_like", "real", "remainder", "reshape", "sort", "sqrt", "stack",
    "sum", "where", "zeros_like",
)  # fmt: skip


def missing(xp: Namespace) -> list[str]:
    """Return the functions that a namespace lacks."""
    if isinstance(xp, _Incomplete):
        return list(xp.missing)
    return [name for name in FUNCTIONS if not _has(xp, name)]


def _has(xp: Namespace, name: str) -> bool:
    try:
        return hasattr(xp, name)
    except Exception:  # noqa: BLE001 - a function that breaks when it is looked up is not there
        return False


def guarded(backend: Backend) -> Backend:
    """Return a backend whose namespace says what it lacks when that is called.

    A backend whose kernels make no use of a function may do without it.
    """
    lacking = missing(backend.xp)
    if not lacking or isinstance(backend.xp, _Incomplete):
        return backend
    return dataclasses.replace(backend, xp=_Incomplete(backend.name, backend.xp, lacking))


class _Incomplete:
    """A namespace that lacks functions."""

    def __init__(self, name: str, xp: Namespace, lacking: Sequence[str]) -> None:
        self.name = name
        self.xp = xp
        self.missing = lacking

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Incomplete) and self.xp is other.xp

    def __hash__(self) -> int:
        return id(self.xp)

    def __repr__(self) -> str:
        return f"<{self.xp!r} without {', '.join(self.missing)}>"

    def __getattr__(self, attribute: str) -> Any:
        if attribute in self.missing:
            msg = (
                f"the namespace of the backend {self.name!r} must have the functions of the "
                f"Python Array API standard; got none called {', '.join(self.missing)}. Add them "
                f"to its `xp`."
            )
            raise NotImplementedError(msg)
        return getattr(self.xp, attribute)
