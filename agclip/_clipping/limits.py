"""From norms to limits: the bound and its weights, or what a plan says instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agclip._clipping.measure import widened
from agclip._clipping.plan import Inputs, StaticArgs
from agclip._numerics.ranges import Norm
from agclip._typing import Scalar


def limits(call: StaticArgs, norms: Sequence[Norm], inputs: Inputs) -> tuple[list[Scalar], Any]:
    """Return the limit of each group, and what the program returns besides."""
    plan = call.plan
    if plan.limits is not None:
        return plan.limits(call, norms, inputs)
    bound = inputs.bound if call.host else widened(call, inputs.arrays, inputs.bound)
    if plan.joint:
        return [bound], None
    if plan.weights is None:
        return [bound] * len(inputs.arrays), None
    return [bound * weight for weight in plan.weights], None
