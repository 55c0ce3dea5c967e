"""Decisions on the slices of many leaves as one: on a device each operation costs its launch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from agclip._backends import batch
from agclip._backends.contract import Factor
from agclip._clipping.plan import StaticArgs
from agclip._numerics.coefficient import Decision
from agclip._numerics.ranges import Norm
from agclip._typing import Array, Namespace, Scalar


class Parts(list[Any]):
    """Arrays that are the parts of one, which they need not be joined to."""

    def __init__(self, parts: Iterable[Array], whole: Array) -> None:
        """Take parts, and what they are parts of."""
        list.__init__(self, parts)
        self.whole = whole


class Slices(list[Norm]):
    """The norms of the slices of each leaf, with those of all of them in a row."""

    others: Sequence[Norm] = ()
    """There are no norms of other groups beside those along axes."""

    def __init__(self, norms: Iterable[Norm], whole: Norm) -> None:
        """Take norms, and those that they are parts of."""
        list.__init__(self, norms)
        self.whole = whole


class Row(NamedTuple):
    """Arrays laid end to end in one of one axis: their shapes, and where each ends."""

    xp: Namespace
    shapes: list[tuple[int, ...]]
    ends: list[int]

    def join(self, values: Sequence[Scalar]) -> Scalar:
        """Return arrays of these shapes as one; a scalar that is the same for all as it is."""
        if type(values) is Parts:
            return values.whole
        first = values[0]
        if isinstance(first, float) or all(value is first for value in values):
            return first
        xp, pairs = self.xp, zip(values, self.shapes, strict=True)
        whole = [x if x.shape == s else xp.broadcast_to(x, s) for x, s in pairs]
        return xp.concat([xp.reshape(x, (-1,)) for x in whole])

    def part(self, value: Scalar | None) -> list[Scalar | None]:
        """Return what of an array is each one's; of a scalar that goes for all itself."""
        if value is None or isinstance(value, float) or value.ndim == 0:
            return [value] * len(self.shapes)
        starts = [0, *self.ends]
        pieces = (value[a:b] for a, b in itertools.pairwise(starts))
        shaped = (self.xp.reshape(x, s) for x, s in zip(pieces, self.shapes, strict=True))
        return Parts(shaped, value)


def row_of(call: StaticArgs, arrays: Sequence[Array], norms: Sequence[Norm]) -> Row | None:
    """Return where norms along axes would lie in a row; None if each has to be looked at by itself.

    They may if all leaves have one dtype and are on one device, on which nothing can be read for
    nothing, and which no compiler sees.
    """
    alike = isinstance(arrays, batch.LeafBatch) and len(arrays.kinds) == 1
    if call.plan.axes is None or call.tested or not alike:
        return None
    if len(norms) < 2 and type(norms) is not Slices:
        return None
    if batch.access(arrays) != "sync":
        return None
    shapes = [norm.root.shape for norm in norms]
    return Row(call.backend.xp, shapes, list(itertools.accumulate(map(math.prod, shapes))))


def joined_norm(row: Row, norms: Sequence[Norm]) -> Norm:
    """Return norms as one."""
    if type(norms) is Slices:
        return norms.whole
    roots, scales, finite, _ = zip(*norms, strict=True)
    return Norm(row.join(roots), row.join(scales), row.join(finite))


class Apart(list[Decision]):
    """The decision on each of many leaves, with the one on all that they are parts of."""

    def __init__(self, decisions: Iterable[Decision], whole: Decision) -> None:
        """Take decisions, and the one that they are parts of."""
        list.__init__(self, decisions)
        self.whole = whole


def apart(row: Row, decision: Decision) -> Apart:
    """Return the decision on each from that on all."""
    exceeds, applies, factor, finite, limit = decision
    columns = map(row.part, (exceeds, applies, *factor.narrow, *factor.wide, finite, limit))
    decisions = (
        Decision(one, two, Factor((a, b), (c, d)), three, four)
        for one, two, a, b, c, d, three, four in zip(*columns, strict=True)
    )
    return Apart(decisions, decision)


def over_all(row: Row, function: Callable[..., Scalar], norms: Sequence[Norm]) -> list[Scalar]:
    """Return what an elementwise function makes of norms: of all of them at once."""
    return row.part(function(joined_norm(row, norms)))
