"""The way of one call: measure, decide, apply. Every norm clip goes through here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip import _programs
from agclip._backend import Backend
from agclip._coefficient import Decision
from agclip._dtypes import kind_of
from agclip._leaves import Leaves
from agclip._norms import Norm
from agclip._programs import Plan
from agclip._typing import Array, Scalar

_FLOAT32_OVERFLOW = 2.0**128 - 2.0**103


class Clipped(NamedTuple):
    """What a clip gives back: the leaves, and the norm before clipping if there is but one."""

    arrays: Sequence[Array]
    norms: Sequence[Scalar]


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
    backend, arrays = leaves.backend, leaves.arrays
    bound = float("inf") if bound is None else bound
    numbers = (bound, loss_scale, use_norm)
    known = all(x is None or isinstance(x, float) for x in numbers)
    host = known and plan.axes is None and leaves.access() == "free"
    static = (backend, plan, host)
    if plan.nonfinite == "error":
        norms = backend.run(_measured, static, (arrays, loss_scale, use_norm))
        require_finite(leaves, norms)
        if not inplace:
            return Clipped(*backend.run(_finished, static, (arrays, norms, bound, loss_scale)))
    elif not inplace:
        return Clipped(*backend.run(_clipped, static, (arrays, *numbers)))
    else:
        norms = backend.run(_measured, static, (arrays, loss_scale, use_norm))
    return Clipped(arrays, backend.run(_overwritten, static, (arrays, norms, bound, loss_scale)))


def _measured(
    backend: Backend,
    plan: Plan,
    host: bool,
    arrays: Sequence[Array],
    loss_scale: Scalar | None,
    use_norm: Scalar | None,
) -> list[Norm]:
    if use_norm is None:
        return _programs.measure(backend, plan, host, arrays)
    loss_scale = _programs.widened(backend, host, arrays, loss_scale)
    return _programs.given(backend, host, arrays, use_norm, loss_scale)


def _decided(
    backend: Backend,
    plan: Plan,
    host: bool,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    bound: Scalar,
    loss_scale: Scalar | None,
) -> tuple[list[Decision], list[Scalar]]:
    bound = _programs.widened(backend, host, arrays, bound)
    loss_scale = _programs.widened(backend, host, arrays, loss_scale)
    limits = _programs.bounds(plan, bound, len(arrays))
    made = _programs.decisions(backend, plan, host, arrays, norms, limits, loss_scale)
    reported = norms if plan.joint else ()
    return made, [value_of(backend, host, arrays, norm, loss_scale) for norm in reported]


def _finished(
    backend: Backend,
    plan: Plan,
    host: bool,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    bound: Scalar,
    loss_scale: Scalar | None,
) -> tuple[list[Array], list[Scalar]]:
    made, values = _decided(backend, plan, host, arrays, norms, bound, loss_scale)
    return _programs.apply(backend, plan, host, arrays, made), values


def _overwritten(
    backend: Backend,
    plan: Plan,
    host: bool,
    arrays: Sequence[Array],
    norms: Sequence[Norm],
    bound: Scalar,
    loss_scale: Scalar | None,
) -> list[Scalar]:
    made, values = _decided(backend, plan, host, arrays, norms, bound, loss_scale)
    _programs.apply_(backend, plan, host, arrays, made)
    return values


def _clipped(
    backend: Backend,
    plan: Plan,
    host: bool,
    arrays: Sequence[Array],
    bound: Scalar,
    loss_scale: Scalar | None,
    use_norm: Scalar | None,
) -> tuple[list[Array], list[Scalar]]:
    norms = _measured(backend, plan, host, arrays, loss_scale, use_norm)
    return _finished(backend, plan, host, arrays, norms, bound, loss_scale)


def value_of(
    backend: Backend,
    host: bool,
    arrays: Sequence[Array],
    norm: Norm,
    loss_scale: Scalar | None,
) -> Scalar:
    """Return a norm's value, divided by the loss scale, in the widest of float32 and the leaves'.

    A 0-d array of the leaves' library; infinite where the value leaves the range of the dtype.
    """
    xp = backend.xp
    root = norm.root if loss_scale is None else norm.root / loss_scale
    value = root / norm.scale
    double = any(kind_of(leaf.dtype).precision == 53 for leaf in arrays)
    dtype = xp.float64 if double else xp.float32
    if not host:
        return xp.astype(value, dtype, copy=False)
    if not double and value >= _FLOAT32_OVERFLOW:
        value = float("inf")
    device = backend.device(arrays[0])
    where: dict[str, Any] = {} if device is None else {"device": device}
    return xp.asarray(value, dtype=dtype, **where)


def norm_of(leaves: Leaves, order: float, loss_scale: Scalar | None) -> Scalar:
    """Return the joint norm of leaves, divided by the loss scale."""
    known = loss_scale is None or isinstance(loss_scale, float)
    host = known and leaves.access() == "free"
    plan = Plan(joint=True, order=order)
    return leaves.backend.run(_norm_of, (leaves.backend, plan, host), (leaves.arrays, loss_scale))


def _norm_of(
    backend: Backend,
    plan: Plan,
    host: bool,
    arrays: Sequence[Array],
    loss_scale: Scalar | None,
) -> Scalar:
    loss_scale = _programs.widened(backend, host, arrays, loss_scale)
    (norm,) = _programs.measure(backend, plan, host, arrays)
    return value_of(backend, host, arrays, norm, loss_scale)


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
    flags = [norm.finite for norm in norms]
    if all(bool(flag if isinstance(flag, bool) else xp.all(flag)) for flag in flags):
        return
    found = []
    for i, leaf in enumerate(leaves.arrays):
        for name, test in (("NaN", xp.isnan), ("an infinity", xp.isinf)):
            if bool(xp.any(test(leaf))):
                found.append(f"{name} at {leaves.path(i)}")
    msg = (
        f"`{leaves.name}` must be finite; got {', '.join(found) or 'a norm that is not'}. "
        "Skip the step, or choose another policy for `nonfinite`."
    )
    raise FloatingPointError(msg)
