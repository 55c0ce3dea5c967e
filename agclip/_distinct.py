"""What tells arrays apart: a tree may hold an array twice, which is overwritten once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from agclip._backend import Backend
from agclip._known import Known
from agclip._typing import Array


def once(backend: Backend, arrays: Sequence[Array]) -> Callable[[Sequence[Array]], Sequence[Array]]:
    """Return a function of some of the arrays that leaves out those it has returned before."""
    if isinstance(arrays, Known) and arrays.distinct:
        return _itself
    key = _key_of(backend, arrays)
    seen: set[Hashable] = set()

    def unseen(some: Sequence[Array]) -> Sequence[Array]:
        keys = set(map(key, some)) - seen
        if len(keys) < len(some):
            some = list({key(x): x for x in some if key(x) in keys}.values())
        seen.update(keys)
        return some

    return unseen


def same_memory(backend: Backend, arrays: Sequence[Array]) -> list[int]:
    """Return for each array the position of the first one that is in the same memory."""
    key, first = _key_of(backend, arrays), dict[Hashable, int]()
    return [first.setdefault(key(x), i) for i, x in enumerate(arrays)]


def _key_of(backend: Backend, arrays: Sequence[Array]) -> Callable[[Array], Hashable]:
    """Return a function that gives one and the same key for an array, and for no other of them.

    A compiler that traces Python takes the `id` of an array for a constant, and compiles anew for
    the arrays of the next step; that two are one it knows by itself. Elsewhere many libraries have
    no hash of an array, or a slow one.
    """
    if isinstance(arrays, Known):
        return id
    first = arrays[0]
    traced = backend.access(first) == "never" and isinstance(first, Hashable)
    return _itself if traced else id


def _itself(x: Any) -> Any:
    return x
