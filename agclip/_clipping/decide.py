"""The parts of the programs behind the clips: measure, decide; `_clipping.apply` has the last.

All are pure functions of arrays that take the hashable part of their arguments, a `Call`, first, so
that a backend's `run` can key a cache of compiled programs on it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip._backends import batch, devices, host_scalars, kernels
from agclip._backends.backend import Backend
from agclip._backends.dtypes import Kind, kind_of, narrower
from agclip._numerics.coefficient import (
    Decision,
    Terms,
    decide,
    in_the_middle,
    strict_shrink,
    times_powers,
)
from agclip._numerics.norms import axis_norms, group_norms
from agclip._numerics.ranges import Norm
from agclip._numerics.rounding import certain_range, same_float32, settle_axis_norm, settle_norm
from agclip._typing import Array, Axes, DType, Namespace, NonFinite, Scalar

_FLOAT32_OVERFLOW = 2.0**128 - 2.0**103


class Plan(NamedTuple):
    """What a clip does, apart from its numbers."""

    joint: bool = False
    """One norm over all leaves; otherwise each leaf on its own."""
    order: float = 2.0
    axes: tuple[Axes, ...] | None = None
    """For each leaf the axes of its norms; None for one norm a group."""
    weights: tuple[float, ...] | None = None
    """For each leaf what the bound is multiplied by."""
    strict: bool = False
    nonfinite: NonFinite = "propagate"
    reproducible: bool = False
    details: bool = False
    """Whether a record of what has been done is wanted: see `_clipping.record`."""

    def groups(self, count: int) -> list[range]:
        """Return the positions of the leaves of each group."""
        return [range(count)] if self.joint else [range(i, i + 1) for i in range(count)]

    def others(self, count: int) -> list[list[int]]:
        """Return the groups whose norms are wanted for the record alone."""
        if not self.details or self.axes is not None:
            return []
        return [[i] for i in range(count)] if self.joint else [list(range(count))]


class Call(NamedTuple):
    """The hashable part of a program's arguments."""

    backend: Backend
    plan: Plan
    host: bool = False
    """Whether all values can be read for nothing: scalars are floats then, else 0-d arrays."""
    tested: bool = False
    """Whether reproducible norms along axes may be left to the rounding test."""
    sharded: bool = False
    """Whether the leaves are parts of arrays: the caller alone knows the norm."""

    @property
    def m(self) -> Namespace:
        """What scalar arithmetic is written in: `host_scalars`, or the library's namespace."""
        return host_scalars if self.host else self.backend.xp

    def wide(self, arrays: Sequence[Array]) -> DType:
        """Return the dtype that sums are formed in."""
        return self.backend.wide(self.backend.xp, arrays[0])


def measure(call: Call, arrays: Sequence[Array]) -> list[Norm]:
    """Return the norm of each group as it came in, and after them those of `Plan.others`."""
    plan = call.plan
    if plan.axes is None:
        groups = plan.groups(len(arrays)) + plan.others(len(arrays))
        return group_norms(
            call.backend, call.m, arrays, groups, plan.order, reproducible=plan.reproducible
        )
    return [
        call.backend.at(
            leaf,
            axis_norms,
            call.backend,
            [leaf],
            [_all_axes(leaf, axes)],
            plan.order,
            reproducible=plan.reproducible,
            tested=call.tested,
        )
        for leaf, axes in zip(arrays, plan.axes, strict=True)
    ]


def _all_axes(leaf: Array, axes: Axes) -> tuple[int, ...]:
    return tuple(range(leaf.ndim)) if axes is None else axes


def given(
    call: Call, arrays: Sequence[Array], norm: Scalar, loss_scale: Scalar | None
) -> list[Norm]:
    """Return a norm that the caller has computed, as the one group's norm of what came in.

    An infinite one is measured again: the norm of finite leaves may be beyond the range of the
    dtype that it is reported in.
    """
    root = widened(call, arrays, norm)
    if loss_scale is not None:
        root = root * loss_scale
    infinite = root == math.inf
    if call.sharded:
        return [Norm(root, 1.0, call.m.isfinite(root))]
    if call.host:
        return measure(call, arrays)[:1] if infinite else [Norm(root, 1.0, math.isfinite(root))]
    # Such leaves are measured without a scale, and multiplied in one step for that.
    unscaled = batch.narrow(arrays, kind_of(call.wide(arrays)).name)

    def again() -> list[Scalar]:
        found = measure(call, arrays)[0]
        scale = [] if unscaled else [call.m.full_like(found.root, 1.0) * found.scale]
        return [found.root, found.finite, *scale]

    def kept() -> list[Scalar]:
        scale = [] if unscaled else [call.m.full_like(root, 1.0)]
        return [root, call.m.isfinite(root), *scale]

    root, finite, *scale = call.backend.branch(call.backend.xp, infinite, again, kept)
    return [Norm(root, scale[0] if scale else 1.0, finite)]


def widened(call: Call, arrays: Sequence[Array], value: Any) -> Scalar:
    """Return a number of the caller's as a scalar of the arithmetic; negative ones become 0."""
    if call.host or value is None:
        return value
    xp, wide = call.backend.xp, call.wide(arrays)
    if isinstance(value, (float, int)):
        device = call.backend.device(arrays[0])
        where: dict[str, Any] = {} if device is None else {"device": device}
        # A product: torch.compile would compile anew for every number that `asarray` is given.
        return xp.ones((), dtype=wide, **where) * value
    value = devices.to_device(call.backend, value, call.backend.device(arrays[0]))
    value = kernels.cast(xp, value, wide)
    return xp.where(value < 0, xp.zeros_like(value), value)


def bounds(plan: Plan, bound: Scalar, count: int) -> list[Scalar]:
    """Return the bound of each group; a list of them is returned itself."""
    if isinstance(bound, list):
        return bound
    if plan.joint or plan.weights is None:
        return [bound] * (1 if plan.joint else count)
    return [bound * weight for weight in plan.weights]


def decisions(
    call: Call,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    limits: Sequence[Scalar],
    loss_scale: Scalar | None,
) -> tuple[list[Decision], list[Norm]]:
    """Compare every group with its bound; return the decisions, and the norms they rest on."""
    groups = call.plan.groups(len(arrays))
    at = call.backend.at
    pairs = [
        at(
            arrays[group[0]],
            _decision,
            *(call, group[0], batch.chosen(arrays, group), norm, limit, loss_scale),
        )
        for group, norm, limit in zip(groups, norms, limits, strict=True)
    ]
    return [decision for decision, _ in pairs], [norm for _, norm in pairs]


def _decision(
    call: Call,
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
    if call.host:
        terms = _known_terms(*settings)
    else:
        terms = _terms(*settings)
        device = call.backend.device(members[0])
        limit = devices.to_device(call.backend, limit, device)
        loss_scale = devices.to_device(call.backend, loss_scale, device)
    decision = decide(call.m, norm, limit, loss_scale, terms)
    if not (call.host or call.tested) or norm.error == 0:
        return decision, norm
    if plan.axes is not None:
        axes, certain = _all_axes(members[0], plan.axes[first]), _surely_along(call, decision, norm)
        settled = settle_axis_norm(call.backend, members[0], axes, norm, certain=certain)
    else:
        certain = _surely_decided(decision, norm) and (
            not plan.joint or _surely_reported(call, norm, loss_scale)
        )
        settled = settle_norm(call.backend, members, norm, certain=certain)
    if settled is norm:
        return decision, norm
    return decide(call.m, settled, limit, loss_scale, terms), settled


def _terms(kinds: frozenset[Kind], wide: str, strict: bool, nonfinite: NonFinite) -> Terms:
    return Terms(
        wide=wide,
        narrow=all(narrower(kind, wide) for kind in kinds),
        shrink=strict_shrink(kinds, wide) if strict else 1.0,
        policy=nonfinite,
    )


_known_terms = functools.cache(_terms)


def _surely_decided(decision: Decision, norm: Norm) -> bool:
    """Tell whether every norm within the error leads to the same decision in float32."""
    low, high = certain_range(norm.root, norm.error)
    if (low <= decision.limit) != (high <= decision.limit):
        return False
    pre, rest = decision.factor.narrow
    if low <= decision.limit or rest == 0:
        return True
    return pre is None and same_float32(rest, norm.error)


def _surely_along(call: Call, decision: Decision, norm: Norm) -> bool:
    """Tell the same of norms along axes: of every one, reading one value."""
    xp = call.backend.xp
    low, high = (end <= decision.limit for end in certain_range(norm.root, norm.error))
    pre, rest = decision.factor.narrow
    least, most = (xp.astype(end, xp.float32) for end in certain_range(rest, norm.error))
    same = (low == high) & (low | (rest == 0) | ((least == most) & (pre == 1)))
    return bool(xp.all(same | xp.logical_not(decision.finite)))


def _surely_reported(call: Call, norm: Norm, loss_scale: Scalar | None) -> bool:
    return same_float32(_value(call, norm, loss_scale), norm.error)


def _value(call: Call, norm: Norm, loss_scale: Scalar | None) -> Scalar:
    if loss_scale is None:
        return norm.root / norm.scale
    # The reciprocal of a loss scale near the ends of the range leaves the range, where the quotient
    # need not. And a compiler turns division by a constant into multiplication by its reciprocal:
    # done here by hand, so that all libraries do the same. Those of powers of two are exact.
    m, wide = call.m, "float64" if call.host else kind_of(norm.root.dtype).name
    divisor, power = in_the_middle(m, loss_scale, wide)
    return times_powers(m, norm.root * (1.0 / divisor), 1.0 / power, 1.0 / norm.scale, 1.0)


def settle(call: Call, arrays: Sequence[Array], norm: Norm, loss_scale: Scalar | None) -> Norm:
    """Return a norm of all leaves that is reported as the reproducible one would be."""
    if not call.host:
        return norm
    certain = norm.error == 0 or _surely_reported(call, norm, loss_scale)
    return settle_norm(call.backend, arrays, norm, certain=certain)


def value_of(call: Call, arrays: Sequence[Array], norm: Norm, loss_scale: Scalar | None) -> Scalar:
    """Return a norm's value, divided by the loss scale, in the widest of float32 and the leaves'.

    A 0-d array of the leaves' library; infinite where the value leaves the range of the dtype.
    """
    backend, xp = call.backend, call.backend.xp
    if not call.host:
        loss_scale = devices.to_device(backend, loss_scale, backend.device(arrays[0]))
    value = backend.at(arrays[0], _value, call, norm, loss_scale)
    double = any(kind.precision == 53 for kind in batch.kinds(arrays))
    dtype = xp.float64 if double else xp.float32
    if not call.host:
        return kernels.cast(xp, value, dtype)
    if not double and value >= _FLOAT32_OVERFLOW:
        value = float("inf")
    device = backend.device(arrays[0])
    where: dict[str, Any] = {} if device is None else {"device": device}
    return xp.full((), value, dtype=dtype, **where)
