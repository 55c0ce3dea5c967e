"""The way of one call: measure, decide, apply. Every norm clip goes through here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agclip import _kernels
from agclip._apply import apply, apply_
from agclip._coefficient import Decision
from agclip._details import Details, details
from agclip._leaves import Leaves
from agclip._norm import Norm
from agclip._programs import (
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
from agclip._typing import Array, Scalar


class Clipped(NamedTuple):
    """What a clip gives back: the leaves, and the norm before clipping if there is but one."""

    arrays: Sequence[Array]
    norms: Sequence[Scalar]
    details: Details | None = None
    """With `Plan.details`: the record of what has been done."""


def clip(
    leaves: Leaves,
    plan: Plan,
    bound: Scalar | None,
    loss_scale: Scalar | None,
    *,
    use_norm: Scalar | None = None,
    inplace: bool = False,
) -> Clipped:
    """Clip leaves by the norms of their groups.

    Args:
        leaves: The leaves, at least one.
        plan: What to do.
        bound: The bound, checked; None for no bound.
        loss_scale: What the leaves come in multiplied by, checked; None for one.
        use_norm: The norm of the one group, checked, if the caller has it.
        inplace: Overwrite the leaves instead of returning new ones.

    Raises:
        FloatingPointError: With `nonfinite="error"`, if a leaf holds a NaN or an infinity.
        ValueError: With `nonfinite="error"`, if the leaves are traced.
    """
    if inplace and leaves.originals is not None:
        clipped = clip(leaves, plan, bound, loss_scale, use_norm=use_norm)
        leaves.overwrite(clipped.arrays)
        return clipped._replace(arrays=leaves.arrays)
    backend, arrays = leaves.backend, leaves.arrays
    bound = float("inf") if bound is None else bound
    numbers = (bound, loss_scale, use_norm)
    known = all(x is None or isinstance(x, float) for x in numbers)
    free = known and leaves.access() == "free"
    tested = free and plan.axes is not None and plan.reproducible and not plan.details
    call = (Call(backend, plan, free and plan.axes is None, tested),)
    if plan.nonfinite != "error":
        whole = _clipped_in_place if inplace else _clipped
        return Clipped(*backend.run(whole, call, (arrays, *numbers)))
    norms = backend.run(_measured, call, (arrays, loss_scale, use_norm))
    if use_norm is not None:
        _require_finite_norm(leaves, norms[0])
    require_finite(leaves, norms)
    rest = overwritten if inplace else finished
    return Clipped(*backend.run(rest, call, (arrays, norms, bound, loss_scale)))


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


def _decided(
    call: Call,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    bound: Scalar,
    loss_scale: Scalar | None,
) -> tuple[list[Decision], list[Scalar], Details | None]:
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
    made, values, record = _decided(call, arrays, norms, bound, loss_scale)
    return apply(call, arrays, made), values, record


def overwritten(
    call: Call,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    bound: Scalar,
    loss_scale: Scalar | None,
) -> tuple[Sequence[Array], list[Scalar], Details | None]:
    made, values, record = _decided(call, arrays, norms, bound, loss_scale)
    apply_(call, arrays, made)
    return arrays, values, record


def _clipped(
    call: Call,
    arrays: Sequence[Array],
    bound: Scalar,
    loss_scale: Scalar | None,
    use_norm: Scalar | None,
) -> tuple[list[Array], list[Scalar], Details | None]:
    norms = _measured(call, arrays, loss_scale, use_norm)
    return finished(call, arrays, norms, bound, loss_scale)


def _clipped_in_place(
    call: Call,
    arrays: Sequence[Array],
    bound: Scalar,
    loss_scale: Scalar | None,
    use_norm: Scalar | None,
) -> tuple[Sequence[Array], list[Scalar], Details | None]:
    norms = _measured(call, arrays, loss_scale, use_norm)
    return overwritten(call, arrays, norms, bound, loss_scale)


def norm_of(leaves: Leaves, plan: Plan, loss_scale: Scalar | None) -> Scalar:
    """Return the joint norm of leaves, divided by the loss scale."""
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
    found = []
    with backend.context():
        for i, leaf in enumerate(leaves.arrays):
            for name, test in (("NaN", xp.isnan), ("an infinity", xp.isinf)):
                if bool(xp.any(test(_kernels.computable(xp, leaf)))):
                    found.append(f"{name} at {leaves.path(i)}")
    msg = (
        f"`{leaves.name}` must be finite; got {', '.join(found)}. "
        "Skip the step, or choose another policy for `nonfinite`."
    )
    raise FloatingPointError(msg)
