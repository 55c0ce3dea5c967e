"""Norms of float32 and narrower leaves in host memory, from their sums of squares in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, overload

from agclip._backends import batch, host_scalars
from agclip._backends.backend import Backend
from agclip._numerics.ranges import Norm
from agclip._numerics.rounding import error_of
from agclip._typing import Array

_norm = partial(tuple.__new__, Norm)
"""Makes a norm of its fields, without the frame of `Norm(...)`."""


class Singles(Sequence[Norm]):
    """The norm of each leaf, of which no more than the sum of squares has been formed yet.

    Most calls need no more of them than the largest, and few look into a record.
    """

    __slots__ = ("_chain", "_counts", "_finite", "others", "sums")

    error = 0.0

    def __init__(
        self,
        sums: Sequence[float],
        chain: int | None,
        counts: Sequence[int],
        others: Sequence[Norm] = (),
    ) -> None:
        """Keep what the norms follow from, and norms of other groups beside them."""
        self.sums = sums
        self.others = others
        self._chain, self._counts = chain, counts
        self._finite: bool | None = None

    @property
    def finite(self) -> bool:
        """Whether all of them are."""
        if self._finite is None:
            self._finite = sum(self.sums) < math.inf  # squares of float32 cannot add up to it
        return self._finite

    def largest(self) -> Norm:
        """Return the largest norm, and as its error what that of none exceeds."""
        count = max(self._counts)
        return Norm(math.sqrt(max(self.sums)), 1.0, self.finite, error_of(self._chain, count))

    def __len__(self) -> int:
        return len(self.sums)

    def __iter__(self) -> Iterator[Norm]:
        return iter(_of_leaves(self.sums, self._chain, self._counts))

    @overload
    def __getitem__(self, index: int) -> Norm: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Norm]: ...
    def __getitem__(self, index: int | slice) -> Norm | Sequence[Norm]:
        if isinstance(index, slice):
            return _of_leaves(self.sums[index], self._chain, self._counts[index])
        return _of_group(float(self.sums[index]), self._chain, self._counts[index])


def plain_norms(
    backend: Backend,
    leaves: Sequence[Array],
    groups: Sequence[Sequence[int]],
    sums: Sequence[float],
    *,
    others: bool,
) -> Sequence[Any]:
    """Return the norms of groups, all leaves or each; and of the other kind, if they are wanted.

    Those of each leaf come as `Singles`: an item where they are the others.
    """
    chain = backend.chain or backend.block
    if len(leaves) == 1 and sums[0] < math.inf:  # the smallest calls are worth a way of their own
        count = batch.counts(leaves)[0]
        return [_norm((math.sqrt(sums[0]), 1.0, True, error_of(chain, count)))] * (1 + others)
    joint = len(groups) == 1
    if not joint and not others:
        return Singles(sums, chain, batch.counts(leaves))
    whole = _of_group(host_scalars.total(sums), chain, batch.elements(leaves))
    if not others:
        return [whole]
    if joint:
        return [whole, Singles(sums, chain, batch.counts(leaves))]
    return Singles(sums, chain, batch.counts(leaves), [whole])


def _of_group(square: float, chain: int | None, count: int) -> Norm:
    finite = square < math.inf
    return Norm(math.sqrt(square), 1.0, finite, error_of(chain, count) if finite else 0.0)


def _of_leaves(sums: Sequence[float], chain: int | None, counts: Sequence[int]) -> list[Norm]:
    if not sum(sums) < math.inf:
        return [_of_group(float(x), chain, n) for x, n in zip(sums, counts, strict=True)]
    # Nothing here is interpreted a leaf, which takes a third of the time.
    errors = map(error_of, repeat(chain), counts)
    fields = zip(map(math.sqrt, sums), repeat(1.0), repeat(True), errors, strict=False)
    return list(map(_norm, fields))
