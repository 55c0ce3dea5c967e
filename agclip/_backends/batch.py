"""Leaves of which an adapter has found out at once what every one would have to be asked for."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from agclip._backends.dtypes import Kind, kind_of, narrower
from agclip._typing import Access, Array


class Known(list[Any]):
    """A list of leaves that are ordinary arrays of one library, and what they have in common."""

    __slots__ = ("access", "distinct", "entries", "kinds")

    def __init__(
        self,
        leaves: Iterable[Array],
        kinds: frozenset[Kind],
        entries: int,
        access: Access,
        *,
        distinct: bool = False,
    ) -> None:
        super().__init__(leaves)
        self.kinds = kinds
        """The kinds of dtype that occur."""
        self.entries = entries
        """The number of real entries of all leaves; a complex one counts as two."""
        self.access: Access = access
        """What reading a value costs."""
        self.distinct = distinct
        """Whether it is certain that no two share memory."""


def kinds(leaves: Sequence[Array]) -> frozenset[Kind]:
    """Return the kinds of dtype that occur in leaves."""
    if isinstance(leaves, Known):
        return leaves.kinds
    return frozenset(kind_of(leaf.dtype) for leaf in leaves)


def narrow(leaves: Sequence[Array], wide: str) -> bool:
    """Tell whether squares of all entries, summed in the dtype named `wide`, stay in its range."""
    if isinstance(leaves, Known):
        return _narrow(leaves.kinds, wide)
    return all(narrower(kind_of(leaf.dtype), wide) for leaf in leaves)


@functools.cache
def _narrow(kinds: frozenset[Kind], wide: str) -> bool:
    return all(narrower(kind, wide) for kind in kinds)


def double(leaves: Sequence[Array]) -> bool:
    """Tell whether a leaf has the precision of float64."""
    return any(kind.precision == 53 for kind in kinds(leaves))


def entries(leaves: Sequence[Array]) -> int:
    """Return the number of real entries of leaves; a complex one counts as two."""
    if isinstance(leaves, Known):
        return leaves.entries
    parts = (2 if kind_of(leaf.dtype).family == "complex" else 1 for leaf in leaves)
    return sum(n * math.prod(leaf.shape) for n, leaf in zip(parts, leaves, strict=True))


def chosen(leaves: Sequence[Array], positions: Sequence[int]) -> Sequence[Array]:
    """Return the leaves at increasing positions: the very same sequence if that is all of them."""
    return leaves if len(positions) == len(leaves) else [leaves[i] for i in positions]
