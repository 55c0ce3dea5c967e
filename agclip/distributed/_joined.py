"""From the arguments of a call to where the other parts of its leaves are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agclip._backends import kernels
from agclip._checks import describe
from agclip._trees.leaves import Leaves
from agclip.distributed import _links, _replicas
from agclip.distributed._ranks import Link, Parts, Ranks


def ranks_of(leaves: Leaves, comm: Any, replicas: Any, facts: tuple[Any, ...] = ()) -> Ranks:
    """Return where the other parts of leaves are.

    Args:
        leaves: The leaves.
        comm: As callers pass it.
        replicas: Likewise.
        facts: What has to be the same on every rank, besides the plan and its numbers.

    Raises:
        TypeError: If `comm` or `replicas` is of a wrong kind, or leaves are lazy or sparse.
        ValueError: If `replicas` is wrong as far as this rank can tell.
    """
    found = given = _links.links(comm)
    typed = () if leaves.cuts is None else tuple(dict.fromkeys(_all(leaves.cuts)))
    if comm is not None and not found:  # (): this process alone
        typed = ()
    if found and _lazy(leaves):
        msg = (
            f"`comm` must be None for lazy arrays, whose norm is that of all their parts already; "
            f"got {describe(comm)}."
        )
        raise TypeError(msg)
    if found:
        leaves.require_dense("for a norm over several ranks")
    if leaves.parts is not None:
        _require_sure(leaves, leaves.parts, comm, found)
        # Types tell along which axes leaves differ: over the others they are held more than once.
        found = tuple(link for link in found if isinstance(link, Link))
    own = tuple(link for link in found if link not in typed)
    if not own and not _replicas.unsaid(replicas):
        msg = "`replicas` must come with a `comm`, on whose ranks leaves are held; got it alone."
        raise ValueError(msg)
    if len({isinstance(link, str) for link in (*typed, *own)}) > 1:
        msg = "`comm` must be axes of a mesh alone, or communicators alone; got both."
        raise TypeError(msg)
    traced = leaves.access == "never" and leaves.backend.run is not kernels.run
    if traced and any(isinstance(link, Link) for link in own):
        msg = (
            f"`comm` must name axes of a mesh for traced arrays, whose norms cannot be read; got "
            f"{describe(comm)}. Call agclip outside of the compiled function."
        )
        raise ValueError(msg)
    often = _replicas.of_leaves(leaves, replicas) or None  # a rank without leaves has none to weigh
    links = (*typed, *own)
    cuts = None
    if typed and leaves.cuts is not None:
        cuts = tuple(frozenset(map(typed.index, cut)) for cut in leaves.cuts)
    common = frozenset(range(len(typed), len(links)))
    return Ranks(links, common, cuts, often, _replicas.held(leaves, often), facts, given)


def _require_sure(leaves: Leaves, parts: Parts, comm: Any, found: tuple[Link | str, ...]) -> None:
    """Raise a ValueError if types do not tell what is asked of them."""
    if comm is None and parts.unsure is not None:
        position, reason = parts.unsure
        msg = (
            f"`comm` must say over which axes norms are taken of leaves like these; got None, and "
            f"one that {reason} at {leaves.path(position)}. Pass () for norms of what is here."
        )
        raise ValueError(msg)
    unbound = [name for name in found if isinstance(name, str) and name not in parts.axes]
    if unbound:
        msg = (
            f"`comm` must name axes that are bound here: {', '.join(map(repr, parts.axes))}; got "
            f"{unbound[0]!r}."
        )
        raise ValueError(msg)


def _all(cuts: Sequence[Sequence[Link | str]]) -> list[Link | str]:
    return [link for cut in cuts for link in cut]


def _lazy(leaves: Leaves) -> bool:
    return any(hasattr(leaf, "compute") for leaf in leaves.arrays[:1])
