"""Norms over ranks: of what each of them has here, from one vector of a few numbers, or two.

For a sum of squares or of magnitudes a rank sends three numbers, two of them nearly always 0: its
sum, or in the place of that the sum of elements scaled down or up by a power of two where the plain
one leaves the range. So one vector is enough, whatever the numbers are. Other orders measure in
units of the largest element of all ranks, and need to know it first; so does the reproducible norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agclip._backends import devices, host_scalars, kernels
from agclip._backends.dtypes import kind_of
from agclip._clipping import exact_norms, rank_sums, single
from agclip._clipping.exact_norms import Found
from agclip._clipping.exchange import Exchange, Slot
from agclip._clipping.plan import Inputs, Plan, StaticArgs, static_args
from agclip._clipping.way import Way, by_sum, way_of, widths_of
from agclip._numerics import power_norms
from agclip._numerics.ranges import Norm
from agclip._trees.default_backend import make
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Scalar
from agclip.distributed import _messages


def failed(leaves: Leaves, plan: Plan) -> None:
    """Say to the other ranks that this one has failed before the reduction."""
    inputs = Inputs(leaves.arrays)
    way_of(static_args(leaves, plan, inputs, inplace=False), inputs).say_failed()


def largest(leaves: Leaves, plan: Plan, values: Sequence[Array]) -> list[Array]:
    """Return the largest of some 0-d arrays on any rank, in the dtype of sums: one vector."""
    call, first = static_args(leaves, plan, Inputs(leaves.arrays), inplace=False), leaves.arrays[0]
    assert plan.ranks is not None, "there are others"
    links = frozenset(range(len(plan.ranks.links)))
    exchange = Exchange(call, plan.ranks, first, call.m)
    sent = [float(value) if call.host else exchange.array(value) for value in values]
    found, _ = exchange.reduced([Slot(0, links, sent)], "max")
    if not call.host:
        return found[0]
    xp, dtype = call.backend.xp, call.acc_dtype
    return [call.backend.scalar_like(xp, value, dtype, first) for value in found[0]]


def measured(call: StaticArgs, inputs: Inputs, *, held: bool = True) -> Found:
    """Return the norms of all ranks, of what each holds.

    Args:
        call: The call; its plan says where the other parts are.
        inputs: The arrays and numbers.
        held: Whether this rank holds a leaf, not just a stand-in.

    Raises:
        RuntimeError: If another rank has failed or makes another call, or `replicas` is wrong.
    """
    way = way_of(call, inputs, held=held)
    if way.probing:
        found = exact_norms.probed(way)
    elif by_sum(call.plan):
        found = _plain(way)
    else:
        found = exact_norms.exact(way) if call.plan.order in (1, 2) else _powers(way)
    made, kinds = found
    if way.m is host_scalars and not call.host:
        made = [_as_arrays(call, inputs.arrays[0], norm) for norm in made]
    return made, kinds


def _plain(way: Way) -> Found:
    """Add up squares or magnitudes: one vector."""
    order = int(way.call.plan.order)
    widths = widths_of(way)
    tested = way.tested
    head: list[Scalar] = []
    if way.digest is not None:
        held = way.exchange.ranks.held
        head += _messages.sum_head(way.kinds, way.digest, held, tested=tested)
    try:
        found = way.local(rank_sums.sums, way.arrays, static=(tuple(widths), tested))
        if way.single:
            found = single.sums(found, widths, order)
    except Exception:
        way.say_failed()
        raise
    sums, head = way.exchange.reduced(way.slots(found, widths), "sum", head)
    kinds = exact_norms.judged(way, head, _messages.judged_sum)
    made = [rank_sums.joined(way.m, sums[g], way.limits, order) for g in range(way.groups)]
    testers = _messages.testers(head) if tested else 0
    if testers:
        made[0] = exact_norms.tested_over_ranks(made[0], sums[0][-1], testers)
    return made, kinds


def exactly(call: StaticArgs, inputs: Inputs, *, held: bool) -> Norm:
    """Return the reproducible norm of all leaves of all ranks, where the test could not decide.

    Replicas that differ by a rounding are no error here: nobody has asked for their bits.
    """
    plan = call.plan._replace(reproducible=True, record=False)
    way = way_of(call._replace(plan=plan), inputs, held=held)
    return exact_norms.exact(way._replace(probing=False), closely=False)[0][0]


def _powers(way: Way) -> Found:
    """Add up powers in units of the largest element of all: two vectors, one of order inf."""
    call, m, order = way.call, way.m, way.call.plan.order
    tops, kinds = exact_norms.peaks_of_all(way)
    if order == math.inf:
        return [rank_sums.largest(m, plain, scaled, way.limits) for plain, scaled in tops], kinds
    units, dtype = [], call.acc_dtype
    if way.single:
        dtype = make([], "float64").dtype
    for (top,) in tops:
        scale = power_norms.power_scale(m, top, dtype)
        units.append((scale, power_norms.unit_of(m, top, scale, order, dtype)))
    here = units
    if way.single:
        pairs = zip(units, tops, strict=True)
        here = [single.unit(scale, unit, top) for (scale, unit), (top,) in pairs]
    try:
        sent = way.local(rank_sums.power_sums, way.arrays, here)
    except Exception:
        way.say_lost(1)
        raise
    sums, _ = way.exchange.reduced(way.slots(sent, 1), "sum")
    if way.readable:
        _messages.require_told([sums[g][0] for g in range(way.groups)], [top for (top,) in tops])
    closely = any(kind.precision == 53 for kind in (way.kinds if kinds is None else kinds))
    made = [
        power_norms.power_root(m, sums[g][0], tops[g][0], unit, scale, order, closely=closely)
        for g, (scale, unit) in enumerate(units)
    ]
    return made, kinds


def _as_arrays(call: StaticArgs, first: Array, norm: Norm) -> Norm:
    """Return a norm of floats as one of arrays on the device of a leaf."""
    backend = call.backend
    if kind_of(call.acc_dtype).name == "float32":
        norm = single.norm(norm)
    with backend.context():
        root, scale = (
            devices.constant(backend, float(x), call.acc_dtype, first)
            for x in (norm.root, norm.scale)
        )
        finite = kernels.number(
            backend.xp, bool(norm.finite), backend.xp.bool, backend.device(first)
        )
    return Norm(root, scale, finite)
