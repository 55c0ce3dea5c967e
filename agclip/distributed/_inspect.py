"""Who holds what: a look at all ranks before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip._checks import describe
from agclip._trees import paths
from agclip._trees.default_backend import make
from agclip._trees.gather import gather
from agclip._trees.leaves import Leaves
from agclip._typing import Replicas, Tree
from agclip.distributed import _links, _messages, _replicas
from agclip.distributed._ranks import Link

_BITS = 31
"""Of the numbers that stand for paths and shapes: a float64 adds up 2**22 of them exactly."""


class Holding(NamedTuple):
    """What is known of one leaf of this rank.

    Example:
        >>> from agclip.distributed import Holding
        >>> Holding("w", (3,), holders=1, replicas=2).agrees
        False
    """

    path: str
    """Its path, as rules spell it."""
    shape: tuple[int, ...]
    """Its shape on this rank."""
    holders: int
    """How many ranks hold a leaf of this path, shape and values."""
    replicas: int
    """How many this rank says there are."""

    @property
    def agrees(self) -> bool:
        """Whether what this rank says is so; 0 is for another rank to say."""
        return self.replicas in (0, self.holders)


def inspect(tree: Tree, comm: Any, replicas: Replicas = None) -> list[Holding]:
    """List on how many ranks each leaf of this rank is held.

    Every rank has to call it. It compares paths, shapes and the norms of the leaves, so call it
    with parameters, or with gradients that have been averaged: then a leaf that the ranks hold
    alike is told from parts of one path that differ. Vectors go around as often as the largest
    tree has leaves; it is meant for the first step, and for tests.

    Args:
        tree: The tree as it is passed to `clip_by_global_norm`.
        comm: The communicator, or a list of them.
        replicas: What is going to be passed as `replicas`.

    Returns:
        A record for each leaf; those that do not agree with `replicas` are its mistakes.

    Raises:
        TypeError: If `comm` is no communicator, or a leaf no array.
        ValueError: If `replicas` is wrong as far as this rank can tell.

    Example:
        >>> import agclip.distributed
        >>> alone = lambda vector, op: vector
        >>> agclip.distributed.inspect({"w": np.ones(3)}, alone, {"w": 2})[0].agrees
        False
    """
    links = [link for link in _links.links(comm) if isinstance(link, Link)]
    if not links:
        msg = (
            f"`comm` must be a communicator to inspect a tree with, or a list of them; got "
            f"{describe(comm)}."
        )
        raise TypeError(msg)
    leaves = gather(tree, "tree", listed=True)
    often = _replicas.of_leaves(leaves, replicas)
    names = paths.dotted(leaves.structure) if leaves.arrays else []
    marks = [_mark(leaves, i, name) for i, name in enumerate(names)]
    counts = _counted(marks, links)
    return [
        Holding(name, tuple(leaf.shape), count, 1 if often is None else often[i])
        for i, (name, leaf, count) in enumerate(zip(names, leaves.arrays, counts, strict=True))
    ]


def _mark(leaves: Leaves, i: int, name: str) -> float:
    """Return a number for the path, the shape and the values of a leaf."""
    from agclip.functions.global_norm import global_norm

    leaf = leaves.arrays[i]
    with leaves.backend.context():
        norm = float(global_norm([leaf], comm=(), reproducible=False))
    return float(1 + _replicas.hashed(repr((name, tuple(leaf.shape), norm))) % (2**_BITS - 2))


def _counted(marks: Sequence[float], links: Sequence[Link]) -> list[int]:
    """Return how many ranks have each mark: the largest mark left goes around, and is counted."""
    left, counts = set(marks), dict.fromkeys(marks, 0)
    while True:
        largest = _around(max(left, default=0.0), links, "max")
        if largest == 0.0:
            return [counts[mark] for mark in marks]
        held = _around(float(largest in left), links, "sum")
        if largest in left:
            counts[largest] = round(held)
            left.remove(largest)


def _around(value: float, links: Sequence[Link], op: Any) -> float:
    for link in links:
        vector = link.all_reduce(link.comm, make([value], "float64"), op)
        value = float(_messages.listed(vector)[0])
    return value
