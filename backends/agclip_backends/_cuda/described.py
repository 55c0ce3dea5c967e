"""What the fused CUDA kernels have to know of leaves, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from agclip_backends import _memory

SIZES = np.array([2, 2, 4, 8])
"""Bytes of a real element, by its kind."""


class _Columns(NamedTuple):
    addresses: tuple[int, ...]
    counts: tuple[int, ...]
    """Of real elements: a complex one is two."""
    kinds: tuple[int, ...]


class Described(_Columns):
    """What the kernels have to know of leaves: each an integer a leaf.

    What follows from it is found out once: to hash a thousand leaves takes 20 microseconds.
    """

    @cached_property
    def _hash(self) -> int:
        return tuple.__hash__(self)

    def __hash__(self) -> int:
        """Return the hash of the columns."""
        return self._hash

    @cached_property
    def once(self) -> Described:
        """The leaves with those emptied that are another one's memory; themselves if none is.

        What lies in the same memory is written once, but counts as often as it is there.
        """
        if len(set(self.addresses)) == len(self.addresses):
            return self
        seen: set[tuple[int, int, int]] = set()
        counts = list(self.counts)
        for i, row in enumerate(zip(*self, strict=True)):
            if row in seen:
                counts[i] = 0
            elif row[1]:
                seen.add(row)
        kept = tuple(counts)
        return self if kept == self.counts else Described(self.addresses, kept, self.kinds)

    def moved(self, addresses: Iterable[int]) -> Described:
        """Return leaves of the same sizes and kinds in memory that nothing shares."""
        made = Described(tuple(addresses), self.counts, self.kinds)
        vars(made)["apart"] = True
        return made

    @cached_property
    def apart(self) -> bool:
        """Whether no two leaves share memory."""
        if len(self.counts) < 2:
            return True
        columns = np.array(self, np.int64)
        begin, count, kind = columns[:, columns[1] > 0]
        return _memory.apart(begin, begin + count * SIZES[kind])


class New(list[Any]):
    """New arrays in the places of others, of which they differ in their addresses alone."""

    def __init__(self, arrays: Iterable[Any], described: Described) -> None:
        """Note where they are."""
        list.__init__(self, arrays)
        self.described = described
