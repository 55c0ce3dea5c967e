"""From norms to limits: the bound and its weights, or what the parameters of a unit allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agclip._backends import devices
from agclip._clipping.measure import measured, widened
from agclip._clipping.plan import Inputs, StaticArgs
from agclip._numerics.ranges import Norm
from agclip._typing import Scalar


def limits(call: StaticArgs, norms: Sequence[Norm], inputs: Inputs) -> tuple[list[Scalar], Any]:
    """Return the limit of each group, and what the program returns besides."""
    plan = call.plan
    if plan.limits is not None:
        return plan.limits(call, norms, inputs)
    bound = widened(call, inputs.arrays, inputs.bound)
    if plan.joint:
        return [bound], None
    if plan.weights is None:
        return [bound] * len(inputs.arrays), None
    return [bound * weight for weight in plan.weights], None


def of_parameters(call: StaticArgs, _: Sequence[Norm], inputs: Inputs) -> tuple[list[Scalar], None]:
    """Return clipping · max(‖W‖, eps) of every unit; `Inputs.extra` holds W and eps."""
    params, eps = inputs.extra
    clipping, floor = (widened(call, inputs.arrays, x) for x in (inputs.bound, eps))
    found = measured(call, params)
    return [call.backend.at(n.root, _allowed, call, n, floor, clipping) for n in found], None


def _allowed(call: StaticArgs, norm: Norm, floor: Scalar, clipping: Scalar) -> Scalar:
    """Return the limit on gradients beside parameters of a norm."""
    xp, value = call.backend.xp, norm.root / norm.scale
    device = call.backend.device(value)
    least, ratio = (devices.to_device(call.backend, x, device) for x in (floor, clipping))
    value = xp.where(value < least, least, value)
    # No bound is no bound, also on parameters of norm zero; and a bound of zero is zero.
    given = (ratio == 0) | xp.isinf(ratio)
    return xp.where(given, ratio, ratio * value)
