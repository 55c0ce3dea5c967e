"""The last part of a program: multiply, hand back what came in, or sum over examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agclip._backends import batch, devices, kernels
from agclip._backends.backend import Backend
from agclip._backends.contract import Factor
from agclip._backends.dtypes import complex_dtype, kind_of
from agclip._backends.fused import Decided
from agclip._clipping import slices
from agclip._clipping.plan import StaticArgs
from agclip._clipping.rows import Apart
from agclip._numerics import axis_sums
from agclip._numerics.coefficient import Decision
from agclip._trees.distinct import deduplicated
from agclip._typing import Array, Scalar


def results(call: StaticArgs, arrays: Sequence[Array], made: Sequence[Decision]) -> Sequence[Any]:
    """Return what a program ends with: new leaves, sums over examples, or in place decisions.

    A leaf that nothing is done to is returned itself.
    """
    if call.inplace:
        return made
    if call.plan.per_example:
        return _summed(call, arrays, made[0])
    new, backend, xp = list(arrays), call.backend, call.backend.xp
    alone = isinstance(made, Apart) or (call.host and not call.plan.joint)
    found = _each(call, arrays, made, inplace=False) if alone else None
    if found is not None:
        return found
    for group, decision in zip(call.groups, made, strict=True):
        if call.host and not decision.applies:
            continue
        members = batch.chosen(arrays, group)
        clipped: Sequence[Array]
        if not call.host:
            clipped = devices.map_devices(backend, members, _flat(decision), _applier(call))
        elif call.plan.nonfinite == "zero" and not decision.finite:
            clipped = [xp.zeros_like(leaf) for leaf in members]
        else:
            clipped = backend.scale(xp, members, decision.factor)
        if call.plan.joint:
            return list(clipped)
        for i, leaf in zip(group, clipped, strict=True):
            new[i] = leaf
    return new


def _each(
    call: StaticArgs, arrays: Sequence[Array], made: Sequence[Decision], *, inplace: bool
) -> Sequence[Array] | None:
    """Multiply leaves that are groups of their own, all at once; None if that cannot be.

    In place no two leaves may be the same memory.
    """
    if isinstance(made, Apart):
        return slices.multiplied(call, arrays, made, inplace=inplace)
    places = [i for i, decision in enumerate(made) if decision.applies]
    if not places:
        return arrays
    zero = call.plan.nonfinite == "zero"
    if len(places) == 1 or (zero and not all(made[i].finite for i in places)):
        return None
    backend, factors = call.backend, [made[i].factor for i in places]
    members = batch.chosen(arrays, places)
    found = backend.scale_each(backend.xp, members, factors, inplace)
    if found is None or inplace:
        return found
    new = list(arrays)
    for i, leaf in zip(places, found, strict=True):
        new[i] = leaf
    return new


def _flat(decision: Decision) -> list[Scalar]:
    factor = decision.factor
    return [decision.applies, decision.finite, *factor.narrow, *factor.wide]


def _applier(call: StaticArgs) -> Any:
    """Return a function of leaves and the scalars of a decision, all on one device."""
    backend, xp = call.backend, call.backend.xp

    def applied(members: Sequence[Array], scalars: Sequence[Scalar]) -> Sequence[Array]:
        applies, finite, *parts = scalars
        factor = Factor(narrow=(parts[0], parts[1]), wide=(parts[2], parts[3]))

        def scaled() -> Sequence[Array]:
            new = backend.scale(xp, members, factor)
            if call.plan.nonfinite == "zero":
                new = [xp.where(finite, leaf, xp.zeros_like(leaf)) for leaf in new]
            return new

        def picked() -> Sequence[Array]:
            if not applies.ndim:
                return scaled()
            return [xp.where(applies, a, b) for a, b in zip(scaled(), members, strict=True)]

        if _multiplied_anyway(call, members):
            return scaled()
        anywhere = xp.any(applies) if applies.ndim else applies
        return backend.branch(xp, anywhere, picked, lambda: list(members))

    return applied


def _multiplied_anyway(call: StaticArgs, members: Sequence[Array]) -> bool:
    """Tell whether leaves within the bound may as well be multiplied by one.

    That is so where nobody can know that they are, and the product has their bits: of finite real
    numbers, and of those of a group that becomes NaN or zero if one is not finite.
    """
    backend, access, kinds = call.backend, batch.access(members), batch.kinds(members)
    if call.plan.nonfinite == "skip" or any(kind.family != "real" for kind in kinds):
        return False
    if access is not None and len(kinds) == 1:  # on one device they are alike
        return access == "sync" and backend.keeps_bits(members[0])
    return all(backend.access(leaf) == "sync" and backend.keeps_bits(leaf) for leaf in members)


def overwrite(call: StaticArgs, arrays: Sequence[Array], made: Sequence[Any]) -> None:
    """Clip the leaves in place; each distinct array once, however often the tree holds it."""
    if isinstance(made[0], Decided):
        made[0].overwrite()
        return
    backend = call.backend
    alone = isinstance(made, Apart) or (call.host and not call.plan.joint)
    distinct = alone and getattr(arrays, "distinct", False)
    if distinct and _each(call, arrays, made, inplace=True) is not None:
        return
    unwritten = deduplicated(backend, arrays)
    for group, decision in zip(call.groups, made, strict=True):
        if _known_idle(call, decision.applies):
            continue
        members = unwritten(batch.chosen(arrays, group))
        if not members:
            continue
        if call.host and call.plan.nonfinite == "zero" and not decision.finite:
            for leaf in members:
                kernels.write(leaf, 0)
        elif call.host:
            backend.scale_(backend.xp, members, decision.factor)
        else:
            devices.map_devices(backend, members, _flat(decision), _overwriter(call))


def _known_idle(call: StaticArgs, applies: Scalar) -> bool:
    if call.host:
        return not applies
    free = call.backend.access(applies) in ("free", "graph")
    return free and not bool(call.backend.xp.any(applies))


def _overwriter(call: StaticArgs) -> Any:
    xp = call.backend.xp

    def overwritten(members: Sequence[Array], scalars: Sequence[Scalar]) -> Sequence[Array]:
        applies, finite, *parts = scalars
        factor = Factor((parts[0], parts[1]), (parts[2], parts[3]))
        if batch.all_real(members):
            call.backend.scale_(xp, members, factor)
        else:
            _scale_some(call, members, factor, applies)
        if call.plan.nonfinite == "zero":
            for leaf in members:
                kernels.write(leaf, xp.where(finite, leaf, xp.zeros_like(leaf)))
        return members

    return overwritten


def _scale_some(call: StaticArgs, members: Sequence[Array], factor: Factor, applies: Array) -> None:
    """Multiply leaves: a factor of one changes no real number, but complex ones that are NaN."""
    xp = call.backend.xp
    plain = [leaf for leaf in members if kind_of(leaf.dtype).family == "real"]
    if plain:
        call.backend.scale_(xp, plain, factor)
    for leaf in members:
        if kind_of(leaf.dtype).family == "complex":
            (new,) = call.backend.scale(xp, [leaf], factor)
            kernels.write(leaf, xp.where(applies, new, leaf))


def _summed(call: StaticArgs, arrays: Sequence[Array], decision: Decision) -> list[Array]:
    """Return for each leaf the sum of its examples times their factors, and after them the count.

    The count is the number of examples that were clipped or not finite.
    """
    backend, xp = call.backend, call.backend.xp
    factors = [part for part in decision.factor.wide if part is not None]
    zero = call.plan.nonfinite == "zero"
    sums = [_weighted_sum(backend, leaf, factors, decision.finite, zero) for leaf in arrays]
    # Integers of 32 bits would be summed in 64, which a device may lack.
    count = xp.sum(xp.astype(decision.exceeds, call.acc_dtype))
    return [*sums, xp.astype(count, xp.int32)]


def _weighted_sum(
    backend: Backend, leaf: Array, factors: Sequence[Array], finite: Array, zero: bool
) -> Array:
    """Return the sum of examples times their factors, formed in the accumulation dtype."""
    xp = backend.xp
    acc_dtype = backend.acc_dtype(xp, leaf)
    if kind_of(leaf.dtype).family == "complex":
        acc_dtype = complex_dtype(xp, acc_dtype)
        if acc_dtype is None:
            halves = kernels.real_parts(xp, leaf)
            sums = [_weighted_sum(backend, half, factors, finite, zero) for half in halves]
            real, imaginary = (xp.astype(half, leaf.dtype) for half in sums)
            return real + imaginary * 1j

    def weighted(rows: Array, finite: Array, *factors: Array) -> Array:
        *pre, rest = factors
        pair = (pre[0] if pre else None, rest)
        (y,) = backend.scale(xp, [kernels.cast(xp, rows, acc_dtype)], Factor(pair, pair))
        if zero:
            y = xp.where(finite, y, xp.zeros_like(y))
        return y

    def of_rows(rows: Array, _: tuple[int, ...], *columns: Array) -> Array:
        return axis_sums.over_first(backend, rows, weighted, columns)

    device = backend.device(leaf)
    columns = [
        devices.to_device(backend, xp.reshape(f, (-1,) + (1,) * (leaf.ndim - 1)), device)
        for f in (finite, *factors)
    ]
    summed = backend.at(
        leaf,
        *(axis_sums.blockwise, backend, leaf, (0,), of_rows, axis_sums.add, tuple(columns)),
    )
    result: Array = kernels.cast(xp, summed, leaf.dtype)
    return result
