"""What callers pass as `comm`, as links."""

from __future__ import annotations

from typing import Any

from agclip._backends import entry_points
from agclip._checks import describe
from agclip._typing import Array
from agclip.distributed import _engines
from agclip.distributed._ranks import Engine, Link, Op


def links(comm: Any) -> tuple[Link | str, ...]:
    """Return the links of a `comm` argument, in the order in which they are applied.

    Raises:
        TypeError: If it is no communicator, nor a list of some.
    """
    if comm is None:
        return ()
    if isinstance(comm, str):
        return (comm,)
    if isinstance(comm, (tuple, list)):
        return tuple(link for one in comm for link in links(one))
    # Engines first: a compiler refuses to be asked whether a process group can be called.
    engine = _engine(comm)
    if engine is not None:
        return (Link(engine.all_reduce, comm),)
    if callable(comm) and not isinstance(comm, type):
        return (Link(_called, comm),)
    known = ", ".join(sorted(entry_points.advertised(entry_points.COMMUNICATORS)))
    msg = (
        f"`comm` must be a communicator ({known}), the name of an axis of a mesh, a function "
        f"(vector, op) that returns a vector, a list of these, () for this process alone, or None; "
        f"got {describe(comm)}."
    )
    raise TypeError(msg)


def _engine(comm: Any) -> Engine | None:
    for base in type(comm).__mro__:
        engine: Engine | None = getattr(
            _engines, "engine_" + base.__module__.partition(".")[0], None
        )
        if engine is not None and engine.accepts(comm):
            return engine
    return None


def probing(given: tuple[Link | str, ...], order: float, reproducible: Any) -> bool:
    """Tell whether a reproducible norm begins with a sum, as the default does.

    All that it depends on is known before the leaves are, and the same on every rank.
    """
    if reproducible is not True or order != 2 or len(given) != 1:
        return False
    link = given[0]
    if isinstance(link, str):
        return False
    engine = _engine(link.comm)
    return engine is not None and engine.host is not None and engine.host(link.comm)


def _called(function: Any, vector: Array, op: Op) -> Array:
    return function(vector, op)
