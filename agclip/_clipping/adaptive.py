"""Limits on gradients that follow from the norms of the parameters (AGC)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agclip._backends import devices
from agclip._clipping import arguments, pipeline
from agclip._clipping.measure import measured, widened
from agclip._clipping.pipeline import Outcome
from agclip._clipping.plan import Inputs, Plan, StaticArgs
from agclip._clipping.rows import over_all, row_of
from agclip._numerics.ranges import Norm
from agclip._trees.gather import gather_like
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Scalar, Tree


def run(
    leaves: Leaves,
    plan: Plan,
    params: Tree,
    clipping: Any,
    eps: Any,
    loss_scale: Any,
    *,
    inplace: bool,
) -> Outcome:
    """Clip leaves whose plan names the axes of their units, as `pipeline.run` does."""
    floor = arguments.floor("eps", eps, leaves)
    weights: Sequence[Array] = ()
    if leaves.arrays:
        others = gather_like(leaves, params, "params")
        for each in (leaves, others):
            each.require_whole()
        weights = others.arrays
    plan = plan._replace(limits=of_parameters)
    extra = (weights, floor)
    return pipeline.run(
        leaves, plan, "clipping", clipping, loss_scale, extra=extra, inplace=inplace
    )


def of_parameters(call: StaticArgs, _: Sequence[Norm], inputs: Inputs) -> tuple[list[Scalar], None]:
    """Return clipping · max(‖W‖, eps) of every unit; `Inputs.extra` holds W and eps."""
    params, eps = inputs.extra
    clipping, floor = (widened(call, inputs.arrays, x) for x in (inputs.bound, eps))
    found = measured(call, params)
    row = row_of(call, inputs.arrays, found)
    if row is not None:
        return over_all(row, lambda n: _allowed(call, n, floor, clipping), found), None
    return [call.backend.at(n.root, _allowed, call, n, floor, clipping) for n in found], None


def _allowed(call: StaticArgs, norm: Norm, floor: Scalar, clipping: Scalar) -> Scalar:
    """Return the limit on gradients beside parameters of a norm."""
    xp, value = call.backend.xp, norm.root / norm.scale
    device = call.backend.device(value)
    least, ratio = (devices.to_device(call.backend, x, device) for x in (floor, clipping))
    value = xp.where(value < least, least, value)
    # No bound is no bound, also on parameters of norm zero; and a bound of zero is zero.
    given = (ratio <= 0) | xp.isinf(ratio)
    return xp.where(given, ratio, ratio * value)
