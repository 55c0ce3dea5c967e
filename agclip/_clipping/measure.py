"""From leaves to norms, and from a norm to the value that is reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from agclip._backends import batch, devices, host_scalars, kernels
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._clipping import across, slices
from agclip._clipping.plan import Inputs, StaticArgs
from agclip._numerics import rounding
from agclip._numerics.coefficient import in_the_middle, times_powers
from agclip._numerics.norms import axis_norms, group_norms
from agclip._numerics.plain_norms import Singles, plain_norms
from agclip._numerics.ranges import Norm
from agclip._typing import Array, Axes, Namespace, Scalar

FLOAT32_OVERFLOW = 2.0**128 - 2.0**103
"""The least number that becomes infinite when it is rounded to float32."""


def measure(call: StaticArgs, inputs: Inputs) -> Sequence[Norm]:
    """Return the norm of each group as it came in, and after them those of `Plan.others`."""
    if inputs.use_norm is not None:
        return _given(call, inputs)
    return measured(call, _counted(inputs))


def _counted(inputs: Inputs) -> Sequence[Array]:
    return inputs.arrays if inputs.merged is None else inputs.merged


def measured(call: StaticArgs, arrays: Sequence[Array]) -> Sequence[Norm]:
    """Return the norms of `measure` from the arrays alone."""
    plan, count = call.plan, len(arrays)
    if plan.per_example:
        return [_of_examples(call, arrays)]
    if plan.ranks is not None and plan.ranks.links:
        return across.measured(call, Inputs(arrays))[0]
    if plan.axes is None:
        backend, acc_dtype = call.backend, call.acc_dtype
        name = kind_of(acc_dtype).name
        if call.host and plan.order == 2 and name == "float64" and batch.narrow(arrays, name):
            others = plan.record and (count > 1 or plan.ranks is not None)
            sums = backend.sum_squares(backend.xp, arrays, acc_dtype, 1.0)
            return plain_norms(backend, arrays, call.groups, sums, others=others)
        groups = [*call.groups, *plan.others(count)] if plan.record else call.groups
        exact = plan.reproducible
        return group_norms(
            backend, call.m, arrays, groups, plan.order, acc_dtype, reproducible=exact
        )
    found = slices.norms(call, arrays)
    if found is not None:
        return found
    return [
        call.backend.at(
            leaf,
            axis_norms,
            call.backend,
            [leaf],
            [all_axes(leaf, axes)],
            plan.order,
            reproducible=plan.reproducible,
            tested=call.tested,
        )
        for leaf, axes in zip(arrays, plan.axes, strict=True)
    ]


def all_axes(leaf: Array, axes: Axes) -> tuple[int, ...]:
    """Return the axes of a leaf's norms by number."""
    return tuple(range(leaf.ndim)) if axes is None else axes


def _of_examples(call: StaticArgs, arrays: Sequence[Array]) -> Norm:
    """Return the norms of the examples, a vector."""
    found = slices.of_examples(call, arrays)
    if found is not None:
        return found
    xp = call.backend.xp
    columns = [leaf if leaf.ndim > 1 else xp.reshape(leaf, (-1, 1)) for leaf in arrays]
    axes = [tuple(range(1, leaf.ndim)) for leaf in columns]
    root, scale, finite, _ = axis_norms(
        call.backend, columns, axes, call.plan.order, reproducible=call.plan.reproducible
    )
    if not isinstance(scale, float):
        scale = xp.reshape(scale, (-1,))
    return Norm(xp.reshape(root, (-1,)), scale, xp.reshape(finite, (-1,)))


def _given(call: StaticArgs, inputs: Inputs) -> list[Norm]:
    """Return a norm that the caller has computed, as the one group's norm of what came in.

    An infinite one is measured again: the norm of finite leaves may be beyond the range of the
    dtype that it is reported in.
    """
    arrays = inputs.arrays
    root = widened(call, arrays, inputs.use_norm)
    loss_scale = widened(call, arrays, inputs.loss_scale)
    if loss_scale is not None:
        root = root * loss_scale
    infinite = root >= math.inf
    if call.sharded:
        return [Norm(root, 1.0, call.m.isfinite(root))]
    if call.host:
        if infinite:
            return list(measured(call, _counted(inputs))[:1])
        return [Norm(root, 1.0, math.isfinite(root))]
    # Such leaves are measured without a scale, and multiplied in one step for that.
    unscaled = batch.narrow(arrays, kind_of(call.acc_dtype).name)

    def again() -> list[Scalar]:
        found = measured(call, _counted(inputs))[0]
        scale = [] if unscaled else [call.m.full_like(found.root, 1.0) * found.scale]
        return [found.root, found.finite, *scale]

    def kept() -> list[Scalar]:
        scale = [] if unscaled else [call.m.full_like(root, 1.0)]
        return [root, call.m.isfinite(root), *scale]

    root, finite, *scale = call.backend.branch(call.backend.xp, infinite, again, kept)
    return [Norm(root, scale[0] if scale else 1.0, finite)]


def widened(call: StaticArgs, arrays: Sequence[Array], value: Any) -> Scalar:
    """Return a number of the caller's as a scalar of the arithmetic; negative ones become 0."""
    if call.host or value is None:
        return value
    xp, acc_dtype = call.backend.xp, call.acc_dtype
    if isinstance(value, (float, int)):
        device = call.backend.device(arrays[0])
        where: dict[str, Any] = {} if device is None else {"device": device}
        # A product: torch.compile would compile anew for every number that `asarray` is given.
        return xp.ones((), dtype=acc_dtype, **where) * value
    value = devices.to_device(call.backend, value, call.backend.device(arrays[0]))
    value = kernels.cast(xp, value, acc_dtype)
    return xp.where(value < 0, xp.zeros_like(value), value)


def unscaled_value(call: StaticArgs, norm: Norm, loss_scale: Scalar | None) -> Scalar:
    """Return the value of a norm, divided by the loss scale."""
    acc_dtype = "float64" if call.host or loss_scale is None else kind_of(norm.root.dtype).name
    return _unscaled(call.m, norm, loss_scale, acc_dtype)


def _unscaled(m: Namespace, norm: Norm, loss_scale: Scalar | None, acc_dtype: str) -> Scalar:
    if loss_scale is None:
        return norm.root if kernels.is_one(norm.scale) else norm.root / norm.scale
    # The reciprocal of a loss scale near the ends of the range leaves the range, where the quotient
    # need not. And a compiler turns division by a constant into multiplication by its reciprocal:
    # done here by hand, so that all libraries do the same. Those of powers of two are exact.
    divisor, power = in_the_middle(m, loss_scale, acc_dtype)
    return times_powers(m, norm.root * (1.0 / divisor), 1.0 / power, 1.0 / norm.scale, 1.0)


def settle(
    call: StaticArgs, arrays: Sequence[Array], norm: Norm, loss_scale: Scalar | None
) -> Norm:
    """Return a norm of all leaves that is reported as the reproducible one would be."""
    if not call.host or norm.error == 0:
        return norm
    rounding.tally.tests += 1
    if rounding.same_float32(unscaled_value(call, norm, loss_scale), norm.error):
        return norm
    return rounding.exact_instead(call.backend, arrays)


def value_of(
    call: StaticArgs, arrays: Sequence[Array], norm: Norm, loss_scale: Scalar | None
) -> Scalar:
    """Return a norm's value, divided by the loss scale, in the widest of float32 and the leaves'.

    A 0-d array of the leaves' library; infinite where the value leaves the range of the dtype.
    """
    backend, xp = call.backend, call.backend.xp
    double = batch.double(arrays) if call.kinds is None else batch.some_double(call.kinds)
    dtype = xp.float64 if double else xp.float32
    if call.host:
        plain = loss_scale is None and norm.scale == 1.0
        value = norm.root if plain else unscaled_value(call, norm, loss_scale)
        if not double and value >= FLOAT32_OVERFLOW:
            value = math.inf
        return backend.scalar_like(xp, value, dtype, arrays[0])
    loss_scale = devices.to_device(backend, loss_scale, backend.device(arrays[0]))
    return kernels.cast(xp, backend.at(arrays[0], unscaled_value, call, norm, loss_scale), dtype)


def float_of(
    call: StaticArgs, arrays: Sequence[Array], norm: Norm, loss_scale: Scalar | None
) -> float:
    """Return what `value_of` does, of a call on the host, as a Python float."""
    plain = loss_scale is None and norm.scale == 1.0
    value: float = norm.root if plain else unscaled_value(call, norm, loss_scale)
    double = batch.double(arrays) if call.kinds is None else batch.some_double(call.kinds)
    return value if double else host_scalars.float32(value)


def values_of(
    call: StaticArgs,
    arrays: Sequence[Array],
    whole: Norm,
    single: Sequence[Norm],
    loss_scale: Scalar | None,
) -> tuple[Array, list[Array] | Callable[[], list[Array]]]:
    """Return the value of the norm of all leaves and those of each, as `value_of` returns one.

    On the host those of several leaves come as a function that makes them: few are looked at.
    """
    several = call.kinds is not None or (len(single) > 1 and len(batch.kinds(arrays)) > 1)
    if not call.host or several:
        # Not `bool(single)`, which Dynamo has not for lists (PyTorch 2.11); nor in `record`.
        pairs, alone = zip(arrays, single, strict=len(single) > 0), call._replace(kinds=None)
        values = [value_of(alone, [leaf], norm, loss_scale) for leaf, norm in pairs]
        return value_of(call, arrays, whole, loss_scale), values
    norm = value_of(call, arrays, whole, loss_scale)
    if len(single) < 2:  # the one leaf is all
        return norm, [norm] * len(single)
    return norm, later(call.backend, arrays, single, loss_scale)


def later(
    backend: Backend, arrays: Sequence[Array], single: Sequence[Norm], loss_scale: float | None
) -> Callable[[], list[Array]]:
    """Return a function that makes arrays of the norms of leaves of one dtype: it holds no leaf.

    They are views of one array: to make an array takes longer than all the rest.
    """
    double, device = batch.double(arrays), backend.device(arrays[0])

    def made() -> list[Array]:
        if type(single) is Singles and loss_scale is None:
            found = list(map(math.sqrt, single.sums))
        elif loss_scale is None and all(norm.scale == 1.0 for norm in single):
            found = [norm.root for norm in single]
        else:
            found = [_unscaled(host_scalars, norm, loss_scale, "float64") for norm in single]
        if not double and not sum(found) < FLOAT32_OVERFLOW:
            found = [math.inf if value >= FLOAT32_OVERFLOW else value for value in found]
        xp = backend.xp
        with backend.context():
            vector = kernels.number(xp, found, xp.float64 if double else xp.float32, device)
            return unstacked(xp, vector)

    return made


def unstacked(xp: Namespace, vector: Array) -> list[Array]:
    """Return the elements of a vector, at least one, as 0-d arrays.

    Unstacking is one call where indexing is one for each element (PyTorch: 37 and 190 us for 100).
    NumPy's makes scalars, which are no arrays.
    """
    if hasattr(xp, "unstack") and type(vector[0]) is type(vector):
        return list(xp.unstack(vector))
    return [vector[i, ...] for i in range(vector.shape[0])]
