"""A mapping that is filled at the first look: for what few callers look at, and is dear to make."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, TypeVar

from agclip_backends import PYTREES

Value = TypeVar("Value")


class LazyDict(MutableMapping[str, Value]):
    """What reads as a dict, whose items are made when somebody looks at them.

    It is none by inheritance: C code would look at the storage of one, and find it empty
    (TensorFlow's `nest` 2.21, Python's `json`). Copies and pickles are dicts. Libraries that know
    containers by their very class are told of this one.

    Example:
        >>> from agclip._backends.lazy import LazyDict
        >>> made = LazyDict(lambda: ["a", "b"], lambda: [1, 2])
        >>> made["b"], len(made), made
        (2, 2, {'a': 1, 'b': 2})
    """

    __slots__ = ("__weakref__", "_keys", "_made", "_values")

    def __new__(cls, keys: Any = (), values: Any = None) -> Any:
        """Return a dict, if pairs are given: so libraries make what is like a container."""
        return dict(keys) if values is None else object.__new__(cls)

    def __init__(
        self, keys: Callable[[], Sequence[str]], values: Callable[[], Sequence[Value]]
    ) -> None:
        """Keep the functions that return the keys, and the values."""
        _introduce()
        self._keys: Callable[[], Sequence[str]] | None = keys
        self._values: Callable[[], Sequence[Value]] | None = values
        self._made: dict[str, Value] = {}

    def _dict(self) -> dict[str, Value]:
        keys, values = self._keys, self._values
        if keys is not None and values is not None:
            # Of two threads that both make them the second one's stay, once and for all.
            self._made = dict(zip(keys(), values(), strict=True))
            self._keys = self._values = None
        return self._made

    def __getitem__(self, key: str) -> Value:
        return self._dict()[key]

    def __setitem__(self, key: str, value: Value) -> None:
        self._dict()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._dict())

    def __len__(self) -> int:
        return len(self._dict())

    def __repr__(self) -> str:
        return repr(self._dict())

    def __eq__(self, other: object) -> Any:
        return self._dict() == (other._dict() if isinstance(other, LazyDict) else other)

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Any) -> dict[str, Any]:
        return self._dict() | dict(other)

    def __ror__(self, other: Any) -> dict[str, Any]:
        return dict(other) | self._dict()

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)

    def copy(self) -> dict[str, Value]:
        """Return a dict of the items."""
        return dict(self._dict())

    __copy__ = copy


_told: set[str] = set()
_modules = [0]
"""How many there were when libraries were last told."""


def _introduce() -> None:
    """Tell libraries that were imported since the last time of the class."""
    if len(sys.modules) == _modules[0]:
        return
    _modules[0] = len(sys.modules)
    for name, place in PYTREES.items():
        if name in sys.modules and name not in _told:
            _told.add(name)
            module, _, function = place.partition(":")
            try:
                getattr(importlib.import_module(module), function)(LazyDict)
            except (ImportError, AttributeError):  # another thread is still importing the library
                _told.discard(name)
