"""Clips that a backend does as a whole, in few launches: what it is asked for.

The plan is told in the terms of `_backends.fused`. Where the backend answers with None, the
general program does the same kernel by kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agclip._backends import batch
from agclip._backends.dtypes import kind_named
from agclip._backends.fused import Decided, Terms
from agclip._clipping.plan import Inputs, StaticArgs
from agclip._numerics.coefficient import strict_shrink
from agclip._numerics.ranges import Norm
from agclip._typing import Array, Scalar

_EACH = (
    strict_shrink([kind_named("float16")], "float64"),
    strict_shrink([kind_named("bfloat16")], "float64"),
    strict_shrink([kind_named("float32")], "float64"),
    strict_shrink([kind_named("float64")], "float64"),
)


def clip(call: StaticArgs, inputs: Inputs) -> tuple[Decided | None, Any]:
    """Return a clip that the backend has decided on; None if it leaves it to the program.

    It is for calls that are `StaticArgs.simple` alone, and so is `norms`. Beside it comes what
    `Plan.limits` returns besides the limits.
    """
    plan = call.plan
    of_norm: Any = getattr(plan.limits, "of_norm", None)
    extra: Any = None

    def limit(norm: Array) -> Scalar:
        nonlocal extra
        bound, extra = of_norm(call, norm, inputs)
        return bound

    terms = Terms(
        plan.joint,
        plan.order if inputs.use_norm is None else 2.0,  # of no norm that is taken
        plan.nonfinite,
        _shrink(call, inputs),
        plan.weights,
        getattr(plan.limits, "eps", 0.0),
        inputs.use_norm,
        None if of_norm is None else limit,
    )
    decided = call.backend.fused(
        inputs.arrays, terms, inputs.bound, inputs.loss_scale, call.inplace, plan.record
    )
    return decided, extra


def by_norm(call: StaticArgs, norms: Sequence[Norm], inputs: Inputs) -> tuple[Decided | None, Any]:
    """Return a clip by a norm that the program has found, as `clip` does.

    Where leaves are narrower than float64, on every rank, a norm of an order >= 1 is in its range:
    what it is scaled by can be divided out.
    """
    plan = call.plan
    if batch.access(inputs.arrays) != "sync" or not plan.joint or plan.record or plan.order < 1:
        return None, None
    if plan.per_example or plan.axes is not None:
        return None, None
    if inputs.loss_scale is not None or inputs.merged is not None:
        return None, None
    if plan.limits is not None and not hasattr(plan.limits, "eps"):
        return None, None
    if batch.some_double(batch.kinds(inputs.arrays) | (call.kinds or frozenset())):
        return None, None
    (norm,) = norms
    unscaled = type(norm.scale) is float and norm.scale == 1.0
    root = norm.root if unscaled else norm.root / norm.scale
    return clip(call, inputs._replace(use_norm=root))


def _shrink(call: StaticArgs, inputs: Inputs) -> tuple[float, float, float, float] | None:
    if not call.plan.strict:
        return None
    if not call.plan.joint:
        return _EACH
    shrink = strict_shrink(call.kinds or batch.kinds(inputs.arrays), "float64")
    return (shrink, shrink, shrink, shrink)


def norms(call: StaticArgs, inputs: Inputs) -> tuple[Array, list[Array]] | None:
    """Return the norm of all leaves, and with `Plan.record` those of each; None likewise."""
    plan = call.plan
    assert plan.joint, "there is one norm of all leaves"
    # In place, but never written: so no memory is taken for new leaves.
    decided = call.backend.fused(
        inputs.arrays,
        Terms(order=plan.order, policy="skip"),
        math.inf,
        inputs.loss_scale,
        True,
        plan.record,
    )
    if decided is None or decided.norm is None:
        return None
    each = [] if decided.details is None else decided.details.leaf_norms
    return decided.norm, each() if callable(each) else each
