"""The reproducible norm over ranks: a maximum, and exact sums in its units; or sums that prove it.

Where ranks are on the host the first vector is a sum like the default's, with peaks behind it.
Ranks that can take the rounding test send their sums, which nearly always prove the bits; others
send their peaks, after which the exact sums can follow. Only where some have sent the one and some
the other, or the test has not been passed, a maximum is sent as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from agclip._backends import host_scalars
from agclip._backends.dtypes import Kind
from agclip._clipping import rank_sums, single
from agclip._clipping.exchange import Slot
from agclip._clipping.way import Way
from agclip._numerics import limbs, rounding
from agclip._numerics.ranges import RANGES, Norm
from agclip._typing import Scalar
from agclip.distributed import _messages, _peaks

Found = tuple[list[Norm], frozenset[Kind] | None]
"""The norm of each group, and the kinds of dtype that any rank holds, where they are known."""

_told: dict[Any, frozenset[Kind]] = {}
"""What the first vectors of calls have told, where reading them costs a synchronisation."""
_MOST = 1024


def peaks_of_all(way: Way) -> tuple[list[list[Scalar]], frozenset[Kind] | None]:
    """Return the peaks of each group, NaN if an element is on any rank: one vector.

    NaN goes as a mark and an infinity: whether a maximum keeps it depends on who takes it.
    """
    m, width = way.m, 2 if way.call.plan.order == math.inf else 1
    head: list[Scalar] = []
    marked: list[Scalar] = []
    if way.digest is not None:
        head += _messages.max_head(way.kinds, way.digest)
    try:
        found = way.local(rank_sums.peaks, way.arrays)
    except Exception:
        way.say_failed()
        raise
    if way.single and way.call.plan.order == math.inf:
        found = single.moduli(found)
    for start in range(0, len(found), width):
        marked += _marked(m, found[start : start + width])
    # The trouble of the head is the mark of all leaves.
    tops, head = way.exchange.reduced(way.slots(marked, width + 1), "max", head)
    trouble = tops[0][-1]
    kinds = judged(way, [trouble, *head], lambda read: _messages.judged_max(read[0], read[1:]))
    made = []
    for g in range(way.groups):
        *values, mark = tops[g]
        isnan = mark > 0
        made.append([m.where(isnan & m.equal(v, math.inf), math.nan, v) for v in values])
    return made, kinds


def _marked(m: Any, values: Sequence[Scalar]) -> list[Scalar]:
    """Return numbers with infinities for NaN, and after them a mark if there was one."""
    first = values[0]
    none, one = m.full_like(first, 0.0), m.full_like(first, 1.0)
    mark = none
    for value in values:
        mark = m.where(m.not_equal(value, value), one, mark)
    marked = [m.where(m.not_equal(value, value), math.inf, value) for value in values]
    return [*marked, mark]


def exact(
    way: Way,
    found: tuple[Sequence[Scalar], frozenset[Kind] | None] | None = None,
    *,
    closely: bool = True,
) -> Found:
    """Add up the integers of the reproducible norm: two vectors; one if peaks have been found."""
    call, m, order = way.call, way.m, int(way.call.plan.order)
    if found is None:
        pairs, kinds = peaks_of_all(way)
        found = [top for (top,) in pairs], kinds
    tops, kinds = found
    known = way.kinds if kinds is None else kinds
    bits = 96 if any(kind.precision == 53 for kind in known) else 64
    try:
        sent = way.local(rank_sums.limb_sums, way.arrays, tops, static=(bits,))
    except Exception:
        way.say_lost(limbs.COUNT)
        raise
    sums, _ = way.exchange.reduced(way.slots(sent, limbs.COUNT), "sum")
    if way.readable:
        for g in range(way.groups):
            _messages.require_whole(sums[g][-1], closely=closely)
    made = []
    for g, top in enumerate(tops):
        grid = limbs.grid_from(m, top, order, bits)
        made.append(limbs.norm(call.backend, m, sums[g], grid, top))
    return made, kinds


def probed(way: Way) -> Found:
    """Return the norms by a sum of sums or peaks, and what has to follow it."""
    tested = way.tested
    silent = bool(way.kinds) if tested else _cannot_tell(way)
    assert way.digest is not None, "links are communicators"
    held = way.exchange.ranks.held
    head: list[Scalar] = []
    head += _messages.sum_head(way.kinds, way.digest, held, tested=tested, silent=silent)
    joint = [part for part in way.parts if part.joint]
    sums: list[Scalar] = [0.0] * (3 * len(joint))
    peaks: list[Scalar] = []
    tops: Sequence[float] = [0.0] * len(joint)
    try:
        if tested:
            sums = way.local(rank_sums.sums, way.arrays, static=((3,) * len(joint), True))
        elif not silent:
            peaks = way.local(rank_sums.peaks, way.arrays)
            tops = _floats(way, peaks[: len(joint)])
    except Exception:
        way.say_failed()
        raise
    slots = [
        Slot(part.group, part.key, [*sums[3 * k : 3 * k + 3], *_peaks.told(tops[k])])
        for k, part in enumerate(joint)
    ]
    came, head = way.first.reduced(slots, "sum", head)
    rest = way._replace(probing=False)
    if way.access == "never":
        return exact(rest)
    kinds = _messages.judged_sum(head)
    testers = _messages.testers(head)
    if testers:
        norm = rank_sums.joined(host_scalars, came[0][:3], RANGES["float64"], 2)
        return [tested_over_ranks(norm, came[0][2], testers)], kinds
    if _messages.silent(head):
        return exact(rest)
    top: Any = _peaks.largest(came[0][3:])
    if way.m is not host_scalars:
        top = way.exchange.array(top)
    return exact(rest, ([top, *peaks[len(joint) :]], kinds))


def _cannot_tell(way: Way) -> bool:
    """Tell whether the peaks of this rank cannot be read, or not without the others."""
    elsewhere = any(part.key for part in way.parts if not part.joint)
    return elsewhere or way.access in ("graph", "never")


def _floats(way: Way, values: Sequence[Scalar]) -> Sequence[float]:
    if way.m is host_scalars:
        return values
    backend = way.call.backend
    with backend.context():
        return _messages.listed(backend.xp.stack([way.exchange.array(x) for x in values]))


def tested_over_ranks(norm: Norm, count: Scalar, testers: int) -> Norm:
    """Return a norm of plain sums with the error that the rounding test has to look at."""
    if not (norm.root > 0 and norm.finite):
        return norm
    return norm._replace(error=rounding.error_over_ranks(count / rank_sums.ASIDE, testers))


def judged(
    way: Way, head: Sequence[Scalar], judge: Callable[[Sequence[float]], frozenset[Kind]]
) -> frozenset[Kind] | None:
    """Return the kinds of dtype that any rank holds; None where nothing can be read.

    Where reading costs a synchronisation it is done once for each communicator and plan.

    Raises:
        RuntimeError: If a rank has failed or makes another call, or `replicas` is wrong.
    """
    if way.readable:
        return judge(head)
    cost = "never" if way.digest is None else way.call.backend.access(head[0])
    if cost == "never":
        return None
    # The communicators themselves, not their ids: another may come to stand where one has stood.
    key = way.exchange.ranks.links, way.digest, way.kinds, len(head)
    known = _told.get(key) if cost == "sync" and _hashable(key) else None
    if known is not None:
        return known
    with way.call.backend.context():
        kinds = judge([float(x) for x in _messages.listed(way.call.backend.xp.stack(head))])
    if len(_told) >= _MOST:
        _told.clear()
    if cost == "sync" and _hashable(key):
        _told[key] = kinds
    return kinds


def _hashable(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True
