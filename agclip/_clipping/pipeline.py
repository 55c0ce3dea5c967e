"""The way of one call: measure, decide, apply. Every norm clip goes through here.

In place a call decides first and writes last, so that everything that can fail has been done when
the first leaf is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip._backends import kernels
from agclip._clipping.apply import apply, apply_
from agclip._clipping.decide import (
    Call,
    Plan,
    bounds,
    decisions,
    given,
    measure,
    settle,
    value_of,
    widened,
)
from agclip._clipping.record import Details, details
from agclip._numerics.coefficient import Decision
from agclip._numerics.ranges import Norm
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Scalar

_NAMED = 10
"""How many findings an error names one by one."""


class Clipped(NamedTuple):
    """What a clip gives back: the leaves, and the norm before clipping if there is but one."""

    arrays: Sequence[Array]
    """The new leaves; in place those that came in, unless they are of another library."""
    norms: Sequence[Scalar]
    details: Details | None = None
    """With `Plan.details`: the record of what has been done."""
    pending: tuple[Call, Sequence[Decision]] | None = None
    """In place: what `write` has still to do."""


def clip(
    leaves: Leaves,
    plan: Plan,
    bound: Scalar | None,
    loss_scale: Scalar | None,
    *,
    use_norm: Scalar | None = None,
    inplace: bool = False,
) -> Clipped:
    """Clip leaves by the norms of their groups; in place this decides, and `write` overwrites.

    Args:
        leaves: The leaves, at least one.
        plan: What to do.
        bound: The bound, checked; None for no bound.
        loss_scale: What the leaves come in multiplied by, checked; None for one.
        use_norm: The norm of the one group, checked, if the caller has it.
        inplace: Decide only: the leaves are going to be overwritten by `write`.

    Raises:
        FloatingPointError: With `nonfinite="error"`, if a leaf holds a NaN or an infinity.
        ValueError: With `nonfinite="error"`, if the leaves are traced.
    """
    if use_norm is None:
        leaves.require_whole()
    inplace = inplace and leaves.originals is None
    backend, arrays = leaves.backend, leaves.arrays
    bound = float("inf") if bound is None else bound
    numbers = (bound, loss_scale, use_norm)
    known = all(x is None or isinstance(x, float) for x in numbers)
    free = known and leaves.access() == "free"
    tested = free and plan.axes is not None and plan.reproducible and not plan.details
    sharded = use_norm is not None and backend.partial(arrays) is not None
    call = Call(backend, plan, free and plan.axes is None, tested, sharded)
    if plan.nonfinite != "error":
        whole = _decided_at_once if inplace else _clipped
        return clipped(leaves, call, backend.run(whole, (call,), (arrays, *numbers)), inplace)
    norms = backend.run(_measured, (call,), (arrays, loss_scale, use_norm))
    if use_norm is not None:
        _require_finite_norm(leaves, norms[0])
    require_finite(leaves, norms)
    rest = decided if inplace else finished
    results = backend.run(rest, (call,), (arrays, norms, bound, loss_scale))
    return clipped(leaves, call, results, inplace)


def clipped(leaves: Leaves, call: Call, results: tuple[Any, ...], inplace: bool) -> Clipped:
    """Return what a program has returned: new leaves, or in place decisions, before the rest."""
    first, norms, record = results
    if inplace:
        return Clipped(leaves.arrays, norms, record, (call, first))
    return Clipped(first, norms, record)


def write(leaves: Leaves, clipped: Clipped) -> None:
    """Overwrite the leaves as a clip in place has decided."""
    if leaves.originals is not None:
        leaves.overwrite(clipped.arrays)
    elif clipped.pending is not None:
        call, made = clipped.pending
        leaves.backend.run(apply_, (call,), (leaves.arrays, made))


def _measured(
    call: Call,
    arrays: Sequence[Array],
    loss_scale: Scalar | None,
    use_norm: Scalar | None,
) -> list[Norm]:
    if use_norm is None:
        return measure(call, arrays)
    loss_scale = widened(call, arrays, loss_scale)
    return given(call, arrays, use_norm, loss_scale)


def decided(
    call: Call,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    bound: Scalar,
    loss_scale: Scalar | None,
) -> tuple[list[Decision], list[Scalar], Details | None]:
    """Return the decisions on the groups, the norm to report, and the record."""
    if isinstance(bound, list):
        bound = [widened(call, arrays, one) for one in bound]
    else:
        bound = widened(call, arrays, bound)
    loss_scale = widened(call, arrays, loss_scale)
    limits = bounds(call.plan, bound, len(arrays))
    others = norms[len(limits) :]
    made, settled = decisions(call, arrays, norms[: len(limits)], limits, loss_scale)
    joint = settled if call.plan.joint else ()
    record = details(call, arrays, made, settled, others, loss_scale)
    return made, [value_of(call, arrays, norm, loss_scale) for norm in joint], record


def finished(
    call: Call,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    bound: Scalar,
    loss_scale: Scalar | None,
) -> tuple[list[Array], list[Scalar], Details | None]:
    """Return the clipped leaves, the norm to report, and the record."""
    made, values, record = decided(call, arrays, norms, bound, loss_scale)
    return apply(call, arrays, made), values, record


def _clipped(
    call: Call,
    arrays: Sequence[Array],
    bound: Scalar,
    loss_scale: Scalar | None,
    use_norm: Scalar | None,
) -> tuple[list[Array], list[Scalar], Details | None]:
    norms = _measured(call, arrays, loss_scale, use_norm)
    return finished(call, arrays, norms, bound, loss_scale)


def _decided_at_once(
    call: Call,
    arrays: Sequence[Array],
    bound: Scalar,
    loss_scale: Scalar | None,
    use_norm: Scalar | None,
) -> tuple[list[Decision], list[Scalar], Details | None]:
    norms = _measured(call, arrays, loss_scale, use_norm)
    return decided(call, arrays, norms, bound, loss_scale)


def norm_of(leaves: Leaves, plan: Plan, loss_scale: Scalar | None) -> Scalar:
    """Return the joint norm of leaves, divided by the loss scale."""
    leaves.require_whole()
    known = loss_scale is None or isinstance(loss_scale, float)
    host = known and leaves.access() == "free"
    call = Call(leaves.backend, plan, host)
    return leaves.backend.run(_norm_of, (call,), (leaves.arrays, loss_scale))


def _norm_of(
    call: Call,
    arrays: Sequence[Array],
    loss_scale: Scalar | None,
) -> Scalar:
    loss_scale = widened(call, arrays, loss_scale)
    (norm,) = measure(call, arrays)
    norm = settle(call, arrays, norm, loss_scale)
    return value_of(call, arrays, norm, loss_scale)


def _known_finite(leaves: Leaves, norm: Norm) -> bool:
    finite = norm.finite
    return bool(finite if isinstance(finite, bool) else leaves.backend.xp.all(finite))


def _require_finite_norm(leaves: Leaves, norm: Norm) -> None:
    if leaves.access() != "never" and not _known_finite(leaves, norm):
        msg = (
            '`use_norm` must be finite with `nonfinite="error"`; got one that is not. Skip the '
            "step, or choose another policy for `nonfinite`."
        )
        raise FloatingPointError(msg)


def require_finite(leaves: Leaves, norms: Sequence[Norm]) -> None:
    """Raise if a norm is not finite, naming the leaves that hold a NaN or an infinity.

    Reads one value a group: a synchronisation on devices, a computation on lazy arrays.
    """
    backend, xp = leaves.backend, leaves.backend.xp
    if leaves.access() == "never":
        msg = (
            '`nonfinite` must not be "error" for traced arrays, whose values cannot be read; got '
            f"traced arrays of {backend.name} in `{leaves.name}`. Use another policy, and test the "
            "norm outside of the compiled function."
        )
        raise ValueError(msg)
    if all(_known_finite(leaves, norm) for norm in norms):
        return
    with backend.context():
        found = [
            (i, name)
            for i, leaf in enumerate(leaves.arrays)
            for name, test in (("NaN", xp.isnan), ("an infinity", xp.isinf))
            if bool(xp.any(test(kernels.computable(xp, leaf))))
        ]
    msg = (
        f"`{leaves.name}` must be finite; got {_listed(leaves, found)}. "
        "Skip the step, or choose another policy for `nonfinite`."
    )
    raise FloatingPointError(msg)


def _listed(leaves: Leaves, found: Sequence[tuple[int, str]]) -> str:
    """Name the first leaves that are not finite, and say in how many more."""
    named = ", ".join(f"{name} at {leaves.path(i)}" for i, name in found[:_NAMED])
    count, shown = len({i for i, _ in found}), len({i for i, _ in found[:_NAMED]})
    return named if count == shown else f"{named} and {count - shown} more of {count} leaves"
