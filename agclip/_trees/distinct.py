"""What tells arrays apart: memory that a tree holds twice is overwritten once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from agclip._backends.backend import Backend
from agclip._backends.batch import LeafBatch
from agclip._backends.dtypes import kind_of
from agclip._typing import Array
from agclip_backends import _memory


class Distinct(list[Any]):
    """A list of arrays of which no two share memory."""

    distinct = True


def marked(
    backend: Backend, arrays: Sequence[Array], name: str, path: Callable[[int], str]
) -> Sequence[Array]:
    """Return arrays that are going to be overwritten, marked as distinct if they are.

    Args:
        backend: The backend that all belong to.
        arrays: The arrays.
        name: The argument they came in.
        path: A function that returns the path of an array by its position.

    Raises:
        TypeError: If two of them share a part of their memory, but not all of it.
    """
    if not arrays or backend.access(arrays[0]) == "never":
        return arrays
    places = _places(backend, arrays)
    pair = _overlapping(places)
    if pair is not None:
        one, other = map(path, sorted(pair))
        msg = (
            f"`{name}` must hold arrays that can be written in place; got two that share a part of "
            f"their memory, at {one} and {other}. Use the function without the underscore, which "
            f"returns new arrays."
        )
        raise TypeError(msg)
    if len(set(places)) < len(places):
        return arrays
    if isinstance(arrays, LeafBatch):
        arrays.distinct = True
        return arrays
    return Distinct(arrays)


def require_apart(
    owners: Sequence[Backend], arrays: Sequence[Array], name: str, path: Callable[[int], str]
) -> None:
    """Raise what `marked` does, if two arrays of one of several libraries share some memory."""
    for owner in {backend.name: backend for backend in owners}.values():
        places = [i for i, backend in enumerate(owners) if backend.name == owner.name]

        def place(index: int, places: list[int] = places) -> str:
            return path(places[index])

        marked(owner, [arrays[i] for i in places], name, place)


def same_memory(backend: Backend, arrays: Sequence[Array]) -> list[int]:
    """Return for each array the position of the first one that lies in the very same memory.

    The same elements in another shape or order are the same memory. An array whose library does not
    show where it lies is taken for itself alone.
    """
    first: dict[Hashable, int] = {}
    places = _places(backend, arrays)
    return [first.setdefault(place, position) for position, place in enumerate(places)]


def _places(backend: Backend, arrays: Sequence[Array]) -> Sequence[Hashable]:
    """Return for each array where its elements lie, the same for the same elements of one dtype."""
    if arrays and backend.access(arrays[0]) == "never":
        return list(map(_key_of(backend, arrays), arrays))
    memories = backend.memory(arrays) if len(arrays) > 1 else None
    if memories is None:
        return range(len(arrays))
    known = [
        (i, memory, tuple(x.shape))
        for i, (x, memory) in enumerate(zip(arrays, memories, strict=True))
        if memory is not None and 0 not in x.shape
    ]
    places: list[Hashable] = list(map(id, arrays))
    extents = [_memory.extent(memory, shape) for _, memory, shape in known]
    if extents and not _memory.apart(*zip(*extents, strict=True)):
        for i, memory, shape in known:
            places[i] = _memory.elements(memory, shape), kind_of(arrays[i].dtype).name
    return places


def _overlapping(places: Sequence[Any]) -> tuple[int, int] | None:
    """Return the positions of two arrays that share a part of their memory; None if none do."""
    first = {place: i for i, place in reversed(list(enumerate(places))) if type(place) is tuple}
    begun: list[Any] = []
    for place in sorted(first, key=lambda place: place[0].low):
        begun = [other for other in begun if other[0].high > place[0].low]
        for other in begun:
            if _memory.overlap(place[0], other[0]):
                return first[place], first[other]
        begun.append(place)
    return None


def deduplicated(
    backend: Backend, arrays: Sequence[Array]
) -> Callable[[Sequence[Array]], Sequence[Array]]:
    """Return a function of some of the arrays that leaves out those whose memory it has returned.

    So of arrays in the same memory the first one decides what is written there.
    """
    if getattr(arrays, "distinct", False):
        return _itself
    key = _key_of(backend, arrays)
    seen: set[Hashable] = set()

    def unseen(some: Sequence[Array]) -> Sequence[Array]:
        # Not by `-`, which Dynamo knows for sets of constants alone (PyTorch 2.11).
        keys = {place for place in map(key, some) if place not in seen}
        if len(keys) < len(some):
            some = list({key(x): x for x in reversed(some) if key(x) in keys}.values())[::-1]
        seen.update(keys)
        return some

    return unseen


def _key_of(backend: Backend, arrays: Sequence[Array]) -> Callable[[Array], Hashable]:
    """Return a function that gives one and the same key for arrays in the same memory.

    A compiler that traces Python takes the `id` of an array for a constant, and compiles anew for
    the arrays of the next step; that two are one it knows by itself. Elsewhere many libraries have
    no hash of an array, or a slow one.
    """
    first = arrays[0]
    if backend.access(first) == "never":
        return _itself if isinstance(first, Hashable) else id
    keys = dict(zip(map(id, arrays), same_memory(backend, arrays), strict=True))
    return lambda x: keys[id(x)]


def _itself(x: Any) -> Any:
    return x
