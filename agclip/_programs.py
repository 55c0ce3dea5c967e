"""The programs behind the clips: pure functions of arrays, run by a backend's `run`.

Each takes its hashable part first, so that a compiler can key its cache on it. `host` says that all
values can be read for nothing: scalars are Python floats then, else 0-d arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agclip import _devices, _floats, _kernels
from agclip._backend import Backend
from agclip._coefficient import Decision, decide, strict_shrink
from agclip._dtypes import kind_of
from agclip._kernels import Factor
from agclip._norms import Norm, axis_norms, group_norms
from agclip._typing import Array, Axes, Namespace, NonFinite, Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
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

    def groups(self, count: int) -> list[list[int]]:
        """Return the positions of the leaves of each group."""
        return [list(range(count))] if self.joint else [[i] for i in range(count)]


def namespace(backend: Backend, host: bool) -> Namespace:
    """Return what scalar arithmetic is written in: `_floats`, or the library's namespace."""
    return _floats if host else backend.xp


def measure(backend: Backend, plan: Plan, host: bool, arrays: Sequence[Array]) -> list[Norm]:
    """Return the norm of each group, as it came in."""
    if plan.axes is None:
        groups = plan.groups(len(arrays))
        return group_norms(backend, namespace(backend, host), arrays, groups, plan.order)
    return [
        axis_norms(backend, [leaf], [_all_axes(leaf, axes)], plan.order)
        for leaf, axes in zip(arrays, plan.axes, strict=True)
    ]


def _all_axes(leaf: Array, axes: Axes) -> tuple[int, ...]:
    return tuple(range(leaf.ndim)) if axes is None else axes


def given(
    backend: Backend, host: bool, arrays: Sequence[Array], norm: Scalar, loss_scale: Scalar | None
) -> list[Norm]:
    """Return a norm that the caller has computed, as the one group's norm of what came in."""
    m = namespace(backend, host)
    root = widened(backend, host, arrays, norm)
    finite = m.isfinite(root)
    return [Norm(root if loss_scale is None else root * loss_scale, 1.0, finite)]


def widened(backend: Backend, host: bool, arrays: Sequence[Array], value: Any) -> Scalar:
    """Return a number of the caller's as a scalar of the arithmetic; negative ones become 0."""
    if host or value is None:
        return value
    xp = backend.xp
    wide = backend.wide(xp, arrays[0])
    if not hasattr(value, "dtype"):
        device = backend.device(arrays[0])
        return xp.asarray(value, dtype=wide, **({} if device is None else {"device": device}))
    value = xp.astype(value, wide, copy=False)
    return xp.where(value < 0, xp.zeros_like(value), value)


def bounds(plan: Plan, bound: Scalar, count: int) -> list[Scalar]:
    """Return the bound of each group."""
    if plan.joint or plan.weights is None:
        return [bound] * (1 if plan.joint else count)
    return [bound * weight for weight in plan.weights]


def decisions(
    backend: Backend,
    plan: Plan,
    host: bool,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    limits: Sequence[Scalar],
    loss_scale: Scalar | None,
) -> list[Decision]:
    """Compare every group with its bound."""
    wide = kind_of(backend.wide(backend.xp, arrays[0])).name
    made = []
    for group, norm, limit in zip(plan.groups(len(arrays)), norms, limits, strict=True):
        kinds = [kind_of(arrays[i].dtype) for i in group]
        shrink = strict_shrink(kinds, wide) if plan.strict else 1.0
        m = namespace(backend, host)
        made.append(decide(m, norm, limit, loss_scale, shrink, wide, plan.nonfinite))
    return made


def apply(
    backend: Backend,
    plan: Plan,
    host: bool,
    arrays: Sequence[Array],
    made: Sequence[Decision],
) -> list[Array]:
    """Return the clipped leaves; a leaf that nothing is done to is returned itself."""
    results = list(arrays)
    for group, decision in zip(plan.groups(len(arrays)), made, strict=True):
        members = [arrays[i] for i in group]
        if host:
            new = _apply_known(backend, plan, members, decision)
        else:
            new = _devices.spread(backend, members, _flat(decision), _applier(backend, plan))
        for i, leaf in zip(group, new, strict=True):
            results[i] = leaf
    return results


def _apply_known(
    backend: Backend, plan: Plan, members: Sequence[Array], decision: Decision
) -> Sequence[Array]:
    if not decision.active:
        return members
    if plan.nonfinite == "zero" and not decision.finite:
        return [backend.xp.zeros_like(leaf) for leaf in members]
    return backend.scale(backend.xp, members, decision.factor)


def _flat(decision: Decision) -> list[Scalar]:
    factor = decision.factor
    return [decision.active, decision.finite, *factor.narrow, *factor.wide]


def _applier(backend: Backend, plan: Plan) -> Any:
    """Return a function of leaves and the scalars of a decision, all on one device."""
    xp = backend.xp

    def applied(members: Sequence[Array], scalars: Sequence[Scalar]) -> Sequence[Array]:
        active, finite, *parts = scalars
        factor = Factor(narrow=(parts[0], parts[1]), wide=(parts[2], parts[3]))

        def scaled() -> Sequence[Array]:
            new = backend.scale(xp, members, factor)
            if plan.nonfinite == "zero":
                new = [xp.where(finite, leaf, xp.zeros_like(leaf)) for leaf in new]
            if active.ndim:
                new = [xp.where(active, a, b) for a, b in zip(new, members, strict=True)]
            return new

        anywhere = xp.any(active) if active.ndim else active
        return backend.branch(xp, anywhere, scaled, lambda: list(members))

    return applied


def apply_(
    backend: Backend,
    plan: Plan,
    host: bool,
    arrays: Sequence[Array],
    made: Sequence[Decision],
) -> None:
    """Clip the leaves in place; each distinct array once, however often the tree holds it."""
    written: set[int] = set()
    for group, decision in zip(plan.groups(len(arrays)), made, strict=True):
        members = [arrays[i] for i in group if id(arrays[i]) not in written]
        written.update(map(id, members))
        if not members or _known_idle(backend, host, decision.active):
            continue
        if host and plan.nonfinite == "zero" and not decision.finite:
            for leaf in members:
                _kernels.write(leaf, 0)
        elif host:
            backend.scale_(backend.xp, members, decision.factor)
        else:
            _devices.spread(backend, members, _flat(decision), _overwriter(backend, plan))


def _known_idle(backend: Backend, host: bool, active: Scalar) -> bool:
    if host:
        return not active
    free = backend.access(active) in ("free", "graph")
    return free and not bool(backend.xp.any(active))


def _overwriter(backend: Backend, plan: Plan) -> Any:
    xp = backend.xp

    def overwritten(members: Sequence[Array], scalars: Sequence[Scalar]) -> Sequence[Array]:
        _, finite, *parts = scalars
        backend.scale_(xp, members, Factor((parts[0], parts[1]), (parts[2], parts[3])))
        if plan.nonfinite == "zero":
            for leaf in members:
                _kernels.write(leaf, xp.where(finite, leaf, xp.zeros_like(leaf)))
        return members

    return overwritten
