"""A shorter way for the most frequent call: the norm of all leaves in host memory, one limit.

It calls the same functions as the program, with the same results to the bit, and skips the
questions that only other calls raise: for a small tree these take longer than the norm
(bench/test_dispatch.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip._backends import batch, host_scalars, kernels
from agclip._backends.fused import Details
from agclip._clipping.measure import FLOAT32_OVERFLOW, later
from agclip._clipping.plan import Inputs, Plan, StaticArgs
from agclip._numerics import rounding
from agclip._numerics.coefficient import STRICT_MARGIN
from agclip._numerics.plain_norms import plain_norms
from agclip._numerics.ranges import Norm
from agclip._trees.leaves import Leaves
from agclip._typing import Array, DType


class Found(NamedTuple):
    """What is known of a usual call once its norm is."""

    call: StaticArgs
    norms: Sequence[Any]
    """As `measure.measured` returns them."""
    bound: float
    """What the norm is compared with, and the bound of the call until that is certain."""
    extra: Any
    """What `Plan.limits` has returned besides the limit, and what it looks at until then."""
    certain: bool = False
    """Whether the norm is finite, and certain as it is reported: so is the limit."""
    within: bool = False
    """Whether it is certain, too, that nothing is clipped."""
    values: Sequence[Array] = ()
    """Then the norm to report, unless there is a record that has it."""
    record: Details | None = None
    """Then what has been done, if the plan asks for a record."""


def found(
    leaves: Leaves,
    plan: Plan,
    bound: Any,
    loss_scale: Any,
    use_norm: Any,
    extra: Any,
    *,
    inplace: bool,
) -> Found | None:
    """Return what is known of a call with one norm, of leaves that are free to read.

    The others are arguments of `pipeline.run`. None if the call is not usual: leaves are float32 or
    narrower then, whose squares add up in float64 in any order.
    """
    arrays, backend = leaves.arrays, leaves.backend
    if not (
        plan.order == 2
        and type(bound) is float
        and loss_scale is use_norm is None
        and isinstance(arrays, batch.LeafBatch)
        and plan.axes is None
        and plan.ranks is None
        and leaves.originals is None
        and leaves.sparse is None
        and leaves.cuts is None
        and backend.partial is kernels.nothing
        and not plan.per_example
        and batch.narrow(arrays, "float64")
    ):
        return None
    xp, acc_dtype = backend.xp, backend.acc_dtype(backend.xp, arrays[0])
    if acc_dtype != xp.float64 or (plan.record and len(arrays.kinds) > 1):
        return None
    groups = (range(len(arrays)),)
    call = StaticArgs(backend, plan, groups, host_scalars, acc_dtype, True, inplace=inplace)
    sums = backend.sum_squares(xp, arrays, acc_dtype, 1.0)
    others = plan.record and len(arrays) > 1
    norms = plain_norms(backend, arrays, groups, sums, others=others)
    root, _, finite, error = norms[0]
    if not (finite and rounding.same_float32(root, error)):
        return Found(call, norms, bound, extra)
    if plan.limits is not None:
        rounding.tally.tests += 1
        (bound,), extra = plan.limits(
            call, [Norm(root, 1.0, True)], Inputs(arrays, bound, extra=extra)
        )
    limit = bound * STRICT_MARGIN["float64"] if plan.strict else bound
    if not rounding.certain_range(root, error)[1] <= limit:
        return Found(call, norms, bound, extra, True)
    rounding.tally.tests += 1
    shown = root if root < FLOAT32_OVERFLOW else math.inf
    norm = backend.scalar_like(xp, shown, xp.float32, arrays[0])
    if not plan.record:
        return Found(call, norms, bound, extra, True, True, (norm,))
    single = later(backend, arrays, norms[1], None) if others else [norm]
    record = _untouched(leaves, norm, single, None if plan.limits else bound, acc_dtype)
    return Found(call, norms, bound, extra, True, True, (), record)


def _untouched(
    leaves: Leaves, norm: Array, single: Any, bound: float | None, acc_dtype: DType
) -> Details:
    """Return the record of a call in which nothing is clipped; without a bound none is in it."""
    scalar_like, xp, first = leaves.backend.scalar_like, leaves.backend.xp, leaves.arrays[0]
    return Details(
        norm,
        single,
        scalar_like(xp, 1.0, acc_dtype, first),
        scalar_like(xp, False, xp.bool, first),
        scalar_like(xp, False, xp.bool, first),
        None if bound is None else scalar_like(xp, bound, acc_dtype, first),
    )
