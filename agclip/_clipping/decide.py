"""From norms and limits to decisions: what each group is multiplied by."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from agclip._backends import batch, devices, host_scalars
from agclip._backends.dtypes import Kind, kind_of, narrower
from agclip._clipping.measure import all_axes, surely_reported
from agclip._clipping.plan import StaticArgs
from agclip._numerics.coefficient import Decision, DecisionOptions, decide, strict_shrink
from agclip._numerics.ranges import Norm
from agclip._numerics.rounding import certain_range, same_float32, settle_axis_norm, settle_norm
from agclip._typing import Array, NonFinite, Scalar


def decisions(
    call: StaticArgs,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    limits: Sequence[Scalar],
    loss_scale: Scalar | None,
) -> tuple[list[Decision], list[Norm]]:
    """Compare every group with its limit; return the decisions, and the norms they rest on."""
    made, settled = [], []
    groups = call.plan.groups(len(arrays))
    if call.host:
        return _on_host(call, arrays, groups, norms, limits, loss_scale)
    for group, norm, limit in zip(groups, norms, limits, strict=True):
        members = batch.chosen(arrays, group)
        decision, final = call.backend.at(
            members[0], _decision, call, group[0], members, norm, limit, loss_scale
        )
        made.append(decision)
        settled.append(final)
    return made, settled


def _on_host(
    call: StaticArgs,
    arrays: Sequence[Array],
    groups: Sequence[Sequence[int]],
    norms: Sequence[Norm],
    limits: Sequence[Scalar],
    loss_scale: Scalar | None,
) -> tuple[list[Decision], list[Norm]]:
    """Do the same with floats: what is asked of the leaves is asked once, if they are alike."""
    plan, wide, kinds = call.plan, kind_of(call.wide(arrays)).name, batch.kinds(arrays)
    terms = _known_terms(kinds, wide, plan.strict, plan.nonfinite)
    made, settled = [], []
    for group, norm, limit in zip(groups, norms, limits, strict=True):
        if len(kinds) > 1 and len(groups) > 1:
            mine = frozenset([kind_of(arrays[i].dtype) for i in group])
            terms = _known_terms(mine, wide, plan.strict, plan.nonfinite)
        final, decision = norm, decide(host_scalars, norm, limit, loss_scale, terms)
        if norm.error:
            certain = _surely_decided(decision, norm) and (
                not plan.joint or surely_reported(call, norm, loss_scale)
            )
            members = batch.chosen(arrays, group) if not certain else ()
            final = settle_norm(call.backend, members, norm, certain=certain)
            if final is not norm:
                decision = decide(host_scalars, final, limit, loss_scale, terms)
        made.append(decision)
        settled.append(final)
    return made, settled


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
        batch.kinds(members),
        kind_of(call.wide(members)).name,
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
    assert plan.axes is not None, "norms along axes are tested"
    axes, certain = all_axes(members[0], plan.axes[first]), _surely_along(call, decision, norm)
    settled = settle_axis_norm(call.backend, members[0], axes, norm, certain=certain)
    if settled is norm:
        return decision, norm
    return decide(xp, settled, limit, loss_scale, terms), settled


def _terms(
    kinds: frozenset[Kind], wide: str, strict: bool, nonfinite: NonFinite
) -> DecisionOptions:
    return DecisionOptions(
        wide=wide,
        narrow=all(narrower(kind, wide) for kind in kinds),
        shrink=strict_shrink(kinds, wide) if strict else 1.0,
        policy=nonfinite,
    )


_known_terms = functools.cache(_terms)


def _surely_decided(decision: Decision, norm: Norm) -> bool:
    """Tell whether every norm within the error leads to the same decision in float32."""
    low, high = certain_range(norm.root, norm.error)
    if high <= decision.limit:
        return True
    if low <= decision.limit:
        return False
    pre, rest = decision.factor.narrow
    if rest == 0:
        return True
    return pre is None and same_float32(rest, norm.error)


def _surely_along(call: StaticArgs, decision: Decision, norm: Norm) -> bool:
    """Tell the same of norms along axes: of every one, reading one value."""
    xp = call.backend.xp
    low, high = (end <= decision.limit for end in certain_range(norm.root, norm.error))
    pre, rest = decision.factor.narrow
    least, most = (xp.astype(end, xp.float32) for end in certain_range(rest, norm.error))
    same = (low == high) & (low | (rest == 0) | ((least == most) & (pre == 1)))
    return bool(xp.all(same | xp.logical_not(decision.finite)))
