"""A clip in two stages, for bounds that follow from the norms: measure first, then decide."""

from __future__ import annotations

from collections.abc import Sequence

from agclip._clipping import pipeline
from agclip._clipping.decide import Call, Plan, measure, widened
from agclip._clipping.record import reported
from agclip._numerics.ranges import Norm
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Scalar


def measured(
    leaves: Leaves, plan: Plan, loss_scale: Scalar | None
) -> tuple[list[Norm], Scalar, list[Scalar]]:
    """Return the norms of leaves before their bounds are known, for `decided`.

    Returns:
        The norms of the groups and of `Plan.others`; the value of the norm of all leaves, as
        `global_norm` returns it; and the value of the norm of each.

    Raises:
        FloatingPointError: With `nonfinite="error"`, if a leaf holds a NaN or an infinity.
        ValueError: With `nonfinite="error"`, if the leaves are traced.
    """
    call = (_call(leaves, plan, loss_scale),)
    norms, value, values = leaves.backend.run(_reported, call, (leaves.arrays, loss_scale))
    if plan.nonfinite == "error":
        pipeline.require_finite(leaves, norms)
    return norms, value, values


def decided(
    leaves: Leaves,
    plan: Plan,
    norms: Sequence[Norm],
    bound: Scalar | list[Scalar],
    loss_scale: Scalar | None,
    *,
    inplace: bool,
) -> pipeline.Clipped:
    """Clip leaves by norms from `measured`; a list holds the bound of each group.

    In place this decides, and `_clipping.pipeline.write` overwrites.
    """
    leaves.require_whole()
    inplace = inplace and leaves.originals is None
    call = _call(leaves, plan, loss_scale)
    program = pipeline.decided if inplace else pipeline.finished
    results = leaves.backend.run(program, (call,), (leaves.arrays, norms, bound, loss_scale))
    return pipeline.clipped(leaves, call, results, inplace)


def _call(leaves: Leaves, plan: Plan, loss_scale: Scalar | None) -> Call:
    known = loss_scale is None or isinstance(loss_scale, float)
    host = known and plan.axes is None and leaves.access() == "free"
    return Call(leaves.backend, plan, host)


def _reported(
    call: Call, arrays: Sequence[Array], loss_scale: Scalar | None
) -> tuple[list[Norm], Scalar, list[Scalar]]:
    norms = measure(call, arrays)
    return norms, *reported(call, arrays, norms, widened(call, arrays, loss_scale))
