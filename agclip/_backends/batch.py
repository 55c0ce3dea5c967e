"""Leaves with columns: what an adapter has found out about a whole list in one pass.

Asking each leaf for its dtype, size and read cost takes longer than clipping a small one. An
adapter that surveys its leaves answers with a `LeafBatch`, whose columns the core reads; leaves of
a library without a survey stay a plain sequence, and the functions below ask each of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from agclip._backends.dtypes import Kind, kind_of, narrower
from agclip._typing import Access, Array


class LeafBatch(list[Any]):
    """A list of ordinary arrays of one library, with metadata (dtypes, element counts, read cost).

    It is a list, so that kernels iterate over it as over any sequence of leaves and at the speed of
    one. A slice of it is a plain list without columns: `chosen` keeps them.

    Attributes:
        column: The kind of dtype of each leaf.
        counts: The number of real elements of each leaf; a complex element counts as two.
        kinds: The kinds of dtype that occur.
        elements: The sum of `counts`.
        access: What reading a value costs.
        distinct: Whether it is certain that no two leaves share memory.
        origin: The batch that these leaves were chosen from, and their positions there; else None.
            An adapter with more columns of its own finds them there.

    Example:
        >>> from agclip.adapters import kind_of
        >>> leaves = [np.ones(3), np.ones(2)]
        >>> batch = LeafBatch(leaves, [kind_of(x.dtype) for x in leaves], [3, 2])
        >>> len(batch), list(batch.counts), batch.chosen([1]).elements
        (2, [3, 2], 2)
    """

    __slots__ = ("access", "column", "counts", "distinct", "elements", "kinds", "origin")

    def __init__(
        self,
        leaves: Iterable[Array],
        column: Sequence[Kind],
        counts: Sequence[int],
        *,
        kinds: frozenset[Kind] | None = None,
        elements: int | None = None,
        access: Access = "free",
        distinct: bool = False,
    ) -> None:
        """Note what is known of the leaves; `kinds` and `elements` follow from the columns."""
        list.__init__(self, leaves)
        self.column = column
        self.counts = counts
        self.kinds = frozenset(column) if kinds is None else kinds
        self.elements: int = sum(counts) if elements is None else elements
        self.access: Access = access
        self.distinct = distinct
        self.origin: tuple[LeafBatch, Sequence[int]] | None = None

    def chosen(self, positions: Sequence[int]) -> LeafBatch:
        """Return the leaves at increasing positions, with their columns."""
        if len(positions) == 1:  # the usual group of a clip of single leaves
            i = positions[0]
            kind, count = self.column[i], self.counts[i]
            kinds = self.kinds if len(self.kinds) == 1 else frozenset((kind,))
            part = LeafBatch([self[i]], [kind], [count], kinds=kinds, elements=count, distinct=True)
        else:
            part = LeafBatch(
                map(self.__getitem__, positions),
                list(map(self.column.__getitem__, positions)),
                list(map(self.counts.__getitem__, positions)),
                distinct=self.distinct,
            )
        part.access = self.access
        part.origin = self, positions
        return part


def kinds(leaves: Sequence[Array]) -> frozenset[Kind]:
    """Return the kinds of dtype that occur in leaves.

    Example:
        >>> sorted(kind.name for kind in kinds([np.ones(1), np.ones(1, np.float32)]))
        ['float32', 'float64']
    """
    if isinstance(leaves, LeafBatch):
        return leaves.kinds
    return frozenset(kind_of(leaf.dtype) for leaf in leaves)


def narrow(leaves: Sequence[Array], acc_dtype: str) -> bool:
    """Tell whether squares of all elements, summed in the dtype `acc_dtype`, stay in its range."""
    if isinstance(leaves, LeafBatch):
        return _narrow(leaves.kinds, acc_dtype)
    return all(narrower(kind_of(leaf.dtype), acc_dtype) for leaf in leaves)


@functools.cache
def _narrow(kinds: frozenset[Kind], acc_dtype: str) -> bool:
    return all(narrower(kind, acc_dtype) for kind in kinds)


@functools.cache
def some_double(kinds: frozenset[Kind]) -> bool:
    """Tell whether one of some kinds has the precision of float64."""
    return any(kind.precision == 53 for kind in kinds)


@functools.cache
def _all_real(kinds: frozenset[Kind]) -> bool:
    return all(kind.family == "real" for kind in kinds)


def all_real(leaves: Sequence[Array]) -> bool:
    """Tell whether all leaves are real floating-point arrays.

    Example:
        >>> all_real([np.ones(1)]), all_real([np.ones(1), np.ones(1, complex)])
        (True, False)
    """
    if isinstance(leaves, LeafBatch):
        return _all_real(leaves.kinds)
    return all(kind_of(leaf.dtype).family == "real" for leaf in leaves)


def double(leaves: Sequence[Array]) -> bool:
    """Tell whether a leaf has the precision of float64.

    Example:
        >>> double([np.ones(1, np.float32)]), double([np.ones(1), np.ones(1, np.float32)])
        (False, True)
    """
    if isinstance(leaves, LeafBatch):
        return some_double(leaves.kinds)
    return any(kind_of(leaf.dtype).precision == 53 for leaf in leaves)


def elements(leaves: Sequence[Array]) -> int:
    """Return the number of real elements of leaves; a complex one counts as two.

    Example:
        >>> elements([np.ones(3), np.ones(2, complex)])
        7
    """
    return leaves.elements if isinstance(leaves, LeafBatch) else sum(counts(leaves))


def counts(leaves: Sequence[Array]) -> Sequence[int]:
    """Return the number of real elements of each leaf; a complex one counts as two.

    Example:
        >>> list(counts([np.ones(3), np.ones(2, complex)]))
        [3, 4]
    """
    if isinstance(leaves, LeafBatch):
        return leaves.counts
    parts = (2 if kind_of(leaf.dtype).family == "complex" else 1 for leaf in leaves)
    return [n * math.prod(leaf.shape) for n, leaf in zip(parts, leaves, strict=True)]


def access(leaves: Sequence[Array]) -> Access | None:
    """Return what reading a value of surveyed leaves costs; None if each has to be asked."""
    return leaves.access if isinstance(leaves, LeafBatch) else None


def chosen(leaves: Sequence[Array], positions: Sequence[int]) -> Sequence[Array]:
    """Return the leaves at increasing positions: the very same sequence if that is all of them.

    Those of a `LeafBatch` keep their columns.
    """
    if len(positions) == len(leaves):
        return leaves
    if isinstance(leaves, LeafBatch):
        return leaves.chosen(positions)
    return [leaves[i] for i in positions]
