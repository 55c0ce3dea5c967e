"""What a clip has done, for those who keep a record: from the very norms and decisions it made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agclip._backends import batch, devices, kernels
from agclip._backends.backend import Backend
from agclip._backends.fused import Details
from agclip._clipping.measure import float_of, settle, values_of, widened
from agclip._clipping.plan import Inputs, StaticArgs
from agclip._numerics import rounding
from agclip._numerics.coefficient import Decision
from agclip._numerics.norms import axis_norms
from agclip._numerics.plain_norms import Singles
from agclip._numerics.ranges import Norm
from agclip._typing import Array, Scalar


def details(
    call: StaticArgs,
    arrays: Sequence[Array],
    made: Sequence[Decision],
    norms: Sequence[Norm],
    others: Sequence[Norm],
    bound: Scalar,
    loss_scale: Scalar | None,
) -> Details:
    """Return the record of a call, whose plan asks for one.

    Args:
        call: The call.
        arrays: The leaves as they came in.
        made: The decision on each group.
        norms: The norm of each group.
        others: The norms of `Plan.others`, empty for norms along axes.
        bound: The bound of the call.
        loss_scale: As a scalar of the arithmetic; None for one.
    """
    whole, single = joint_and_single(call, norms, others)
    norm, leaf_norms = values_of(call, arrays, whole, single, loss_scale)
    if call.host:
        return Details(norm, leaf_norms, *_on_host(call, arrays, made, bound, loss_scale))
    finite = [decision.finite for decision in made]
    over = [call.backend.at(one.exceeds, _both, one.exceeds, one.finite) for one in made]
    factors = [call.backend.at(one.exceeds, _coefficient, call, one, loss_scale) for one in made]
    return Details(
        norm,
        leaf_norms,
        scale=_least(call, factors),
        clipped=_anywhere(call, over),
        nonfinite=_anywhere(call, [call.m.logical_not(one) for one in finite]),
    )


def _on_host(
    call: StaticArgs,
    arrays: Sequence[Array],
    made: Sequence[Decision],
    bound: Scalar,
    loss_scale: Scalar | None,
) -> tuple[Array, Array, Array, Array | None]:
    """Return the last fields of the record from floats."""
    least, clipped, nonfinite = math.inf, False, False
    first = made[0]
    if first is made[-1] and made.count(first) == len(made):  # one decision for all within it
        made = [first]
    for decision in made:
        factor = _coefficient(call, decision, loss_scale) if decision.exceeds else 1.0
        least = factor if factor < least or factor != factor else least
        clipped = clipped or (decision.exceeds and decision.finite)
        nonfinite = nonfinite or not decision.finite
    backend, xp, dtype = call.backend, call.backend.xp, call.acc_dtype
    return (
        backend.scalar_like(xp, least, dtype, arrays[0]),
        backend.scalar_like(xp, clipped, xp.bool, arrays[0]),
        backend.scalar_like(xp, nonfinite, xp.bool, arrays[0]),
        # What follows from norms is reported by whoever made it of them.
        None if call.plan.limits else backend.scalar_like(xp, bound, dtype, arrays[0]),
    )


def _both(a: Scalar, b: Scalar) -> Scalar:
    return a & b


def _quotient(a: Scalar, b: Scalar) -> Scalar:
    return a / b


def joint_and_single(
    call: StaticArgs, norms: Sequence[Norm], others: Sequence[Norm]
) -> tuple[Norm, Sequence[Norm]]:
    """Return the norm of all leaves, and that of each."""
    if call.plan.axes is not None:
        at, order = call.backend.at, call.plan.order
        slices = [at(norm.root, _quotient, norm.root, norm.scale) for norm in norms]
        single = [at(values, of_values, call.backend, [values], order) for values in slices]
        return at(slices[0], of_values, call.backend, slices, order), single
    if not others:  # of one leaf
        return norms[0], norms
    first: Any = others[0]
    if type(first) is Singles:
        return norms[0], first
    return (norms[0], others) if call.plan.joint else (others[0], norms)


def of_values(backend: Backend, values: Sequence[Array], order: float) -> Norm:
    """Return the norm of norms, arrays of any shapes, on the device of the first."""
    xp, device = backend.xp, backend.device(values[0])
    flat = [xp.reshape(devices.to_device(backend, value, device), (-1,)) for value in values]
    norm = axis_norms(backend, [xp.concat(flat)], [(0,)], order, reproducible=False)
    scale = norm.scale if isinstance(norm.scale, float) else norm.scale[0, ...]
    return Norm(norm.root[0, ...], scale, norm.finite[0, ...])


def reported(call: StaticArgs, norms: Sequence[Norm], inputs: Inputs) -> tuple[Array, list[Array]]:
    """Return the values of the norms of all leaves and of each, as `global_norm` returns one.

    Without `Plan.record` those of each are left out.
    """
    arrays = inputs.arrays
    loss_scale = widened(call, arrays, inputs.loss_scale)
    whole: Norm = norms[0]
    single: Sequence[Norm] = ()
    if call.plan.record:
        whole, single = _apart(call, norms)
    settled = [
        settle(call, [leaf], norm, loss_scale)
        for leaf, norm in zip(arrays, single, strict=len(single) > 0)
    ]
    whole = settle(call, arrays, whole, loss_scale)
    norm, values = values_of(call, arrays, whole, settled, loss_scale)
    return norm, values() if callable(values) else values


def reported_floats(
    call: StaticArgs, norms: Sequence[Norm], inputs: Inputs
) -> tuple[float, list[float]]:
    """Return what `reported` does, of a call on the host without a loss scale, as Python floats."""
    arrays = inputs.arrays
    whole, single = _apart(call, norms)
    value = float_of(call, arrays, settle(call, arrays, whole, None), None)
    found = None if batch.double(arrays) else rounding.all_float32(single)
    if found is not None:
        rounding.tally.tests += len(found)
        return value, found
    alone = call._replace(kinds=None)
    pairs = zip(arrays, single, strict=True)
    return value, [
        float_of(alone, [leaf], settle(call, [leaf], norm, None), None) for leaf, norm in pairs
    ]


def _apart(call: StaticArgs, norms: Sequence[Norm]) -> tuple[Norm, Sequence[Norm]]:
    """Return the norm of all leaves, and that of each, of a plan with a record."""
    if type(norms) is Singles:
        return joint_and_single(call, norms, norms.others)
    count = len(call.groups)
    return joint_and_single(call, norms[:count], norms[count:])


def _coefficient(call: StaticArgs, decision: Decision, loss_scale: Scalar | None) -> Scalar:
    m = call.m
    pre, rest = decision.factor.wide
    if not call.host:
        loss_scale = devices.to_device(call.backend, loss_scale, call.backend.device(rest))
    # The power of two comes last: beside it the other two are of ordinary size.
    coefficient = rest if loss_scale is None else rest * loss_scale
    coefficient = coefficient if pre is None else pre * coefficient
    coefficient = m.where(decision.exceeds, coefficient, 1.0)
    if call.plan.nonfinite == "zero":
        coefficient = m.where(decision.finite, coefficient, 0.0)
    return coefficient


def _least(call: StaticArgs, values: Sequence[Scalar]) -> Array:
    xp = call.backend.xp

    def smaller(a: Scalar, b: Scalar) -> Scalar:
        return xp.where((a < b) | xp.not_equal(a, a), a, b)

    ones = [value if value.ndim == 0 else kernels.least(xp, value) for value in values]
    return devices.reduce(call.backend, ones, smaller)


def _anywhere(call: StaticArgs, facts: Sequence[Scalar]) -> Array:
    xp = call.backend.xp
    ones = [fact if fact.ndim == 0 else xp.any(fact) for fact in facts]
    return devices.anywhere(call.backend, ones)
