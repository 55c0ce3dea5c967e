"""From norms and limits to decisions: what each group is multiplied by."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from agclip._backends import batch, devices
from agclip._backends.dtypes import Kind, kind_of, narrower
from agclip._clipping.measure import all_axes, unscaled_value
from agclip._clipping.plan import StaticArgs
from agclip._clipping.rows import apart, joined_norm, row_of
from agclip._numerics import rounding
from agclip._numerics.coefficient import (
    Decision,
    DecisionOptions,
    decide,
    decide_floats,
    strict_shrink,
)
from agclip._numerics.plain_norms import Singles
from agclip._numerics.ranges import Norm
from agclip._typing import Array, NonFinite, Scalar


def on_device(
    call: StaticArgs,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    limits: Sequence[Scalar],
    loss_scale: Scalar | None,
) -> tuple[list[Decision], list[Norm]]:
    """Compare every group with its limit; return the decisions, and the norms they rest on."""
    row = row_of(call, arrays, norms)
    if row is not None:
        limit = row.join(limits)
        norm = joined_norm(row, norms)
        decision, _ = call.backend.at(
            arrays[0], _decision, call, 0, arrays, norm, limit, loss_scale
        )
        return apart(row, decision), list(norms)
    made, settled = [], []
    for group, norm, limit in zip(call.groups, norms, limits, strict=True):
        members = batch.chosen(arrays, group)
        decision, final = call.backend.at(
            members[0], _decision, call, group[0], members, norm, limit, loss_scale
        )
        made.append(decision)
        settled.append(final)
    return made, settled


def on_host(
    call: StaticArgs,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    limits: Sequence[Scalar],
    loss_scale: Scalar | None,
) -> tuple[list[Decision], Sequence[Norm]]:
    """Do the same with floats: what is asked of the leaves is asked once, if they are alike."""
    plan, acc_dtype = call.plan, kind_of(call.acc_dtype).name
    kinds = batch.kinds(arrays) if call.kinds is None else call.kinds
    terms = _known_terms(kinds, acc_dtype, plan.strict, plan.nonfinite)
    if type(norms) is Singles and loss_scale is None:
        idle = _all_within(norms, limits, terms)
        if idle is not None:
            return [idle] * len(norms), norms
    made, settled = [], []
    for group, norm, limit in zip(call.groups, norms, limits, strict=True):
        if len(kinds) > 1 and len(call.groups) > 1:  # never with those of other ranks
            mine = frozenset([kind_of(arrays[i].dtype) for i in group])
            terms = _known_terms(mine, acc_dtype, plan.strict, plan.nonfinite)
        final, decision = norm, decide_floats(norm, limit, loss_scale, terms)
        if norm.error:
            rounding.tally.tests += 1
            if not _surely_decided(call, decision, norm, loss_scale):
                final = rounding.exact_instead(call.backend, batch.chosen(arrays, group))
                decision = decide_floats(final, limit, loss_scale, terms)
        made.append(decision)
        settled.append(final)
    return made, settled


def _all_within(norms: Singles, limits: Sequence[float], terms: DecisionOptions) -> Decision | None:
    """Return the one decision on all leaves, if it is certain of each that it is within its bound.

    So the least bound has to be above all that the largest norm may be.
    """
    largest = norms.largest()
    _, high = rounding.certain_range(largest.root, largest.error)
    least = limits[0]
    if limits.count(least) < len(limits):
        least = min(limits)
        if not all(limit >= least for limit in limits):  # one is NaN
            return None
    decision = decide_floats(largest._replace(root=high), least, None, terms)
    if decision.exceeds or not largest.finite or not high < decision.limit:
        return None
    rounding.tally.tests += len(norms)
    return decision


def _decision(
    call: StaticArgs,
    first: int,
    members: Sequence[Array],
    norm: Norm,
    limit: Scalar,
    loss_scale: Scalar | None,
) -> tuple[Decision, Norm]:
    """Decide on a group, whose first leaf is given by its position."""
    plan = call.plan
    settings = (
        batch.kinds(members) if call.kinds is None else call.kinds,
        kind_of(call.backend.acc_dtype(call.backend.xp, members[0])).name,
        plan.strict,
        plan.nonfinite,
    )
    terms, xp = _terms(*settings), call.backend.xp
    device = call.backend.device(members[0])
    limit = devices.to_device(call.backend, limit, device)
    loss_scale = devices.to_device(call.backend, loss_scale, device)
    decision = decide(xp, norm, limit, loss_scale, terms)
    if not call.tested or norm.error == 0:
        return decision, norm
    rounding.tally.tests += 1
    if _surely_along(call, decision, norm):
        return decision, norm
    assert plan.axes is not None, "norms along axes are tested"
    axes = all_axes(members[0], plan.axes[first])
    settled = rounding.exact_instead(call.backend, members, [axes])
    return decide(xp, settled, limit, loss_scale, terms), settled


def _terms(
    kinds: frozenset[Kind], acc_dtype: str, strict: bool, nonfinite: NonFinite
) -> DecisionOptions:
    return DecisionOptions(
        acc_dtype=acc_dtype,
        narrow=all(narrower(kind, acc_dtype) for kind in kinds),
        shrink=strict_shrink(kinds, acc_dtype) if strict else 1.0,
        policy=nonfinite,
    )


_known_terms = functools.cache(_terms)


def surely(
    call: StaticArgs,
    arrays: Sequence[Array],
    norm: Norm,
    limit: float,
    loss_scale: float | None,
) -> bool:
    """Make the rounding test of a norm of all leaves: tell whether it stands for the exact one.

    Next to a limit that norms are often equal to the coefficient is 1 in float32 on either side.
    """
    rounding.tally.tests += 1
    kinds = batch.kinds(arrays) if call.kinds is None else call.kinds
    acc_dtype = kind_of(call.acc_dtype).name
    terms = _known_terms(kinds, acc_dtype, call.plan.strict, call.plan.nonfinite)
    low, high = rounding.certain_range(norm.root, norm.error)
    if low <= limit < high and loss_scale is None and not (call.plan.strict or call.plan.record):
        sure = rounding.same_float32(norm.root, norm.error)
    else:
        decision = decide_floats(norm, limit, loss_scale, terms)
        sure = _surely_decided(call, decision, norm, loss_scale)
    rounding.tally.fallbacks += not sure
    return sure


def _surely_decided(
    call: StaticArgs, decision: Decision, norm: Norm, loss_scale: Scalar | None
) -> bool:
    """Tell whether every norm within the error leads to the same decision in float32.

    So must the one norm of all leaves be the same float32, which is reported.
    """
    low, high = rounding.certain_range(norm.root, norm.error)
    if low <= decision.limit < high:
        return False
    pre, rest = decision.factor.narrow
    multiplied = not low <= decision.limit and rest != 0
    if multiplied and (pre is not None or not rounding.same_float32(rest, norm.error)):
        return False
    if not call.plan.joint:
        return True
    value = norm.root if loss_scale is None else unscaled_value(call, norm, loss_scale)
    return rounding.same_float32(value, norm.error)


def _surely_along(call: StaticArgs, decision: Decision, norm: Norm) -> bool:
    """Tell the same of norms along axes: of every one, reading one value."""
    xp = call.backend.xp
    low, high = (end <= decision.limit for end in rounding.certain_range(norm.root, norm.error))
    pre, rest = decision.factor.narrow
    least, most = (xp.astype(end, xp.float32) for end in rounding.certain_range(rest, norm.error))
    same = (low == high) & (low | (rest == 0) | ((least == most) & (pre == 1)))
    return bool(xp.all(same | xp.logical_not(decision.finite)))
