"""Adaptive gradient clipping: each unit's gradient bounded by the norm of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agclip._backends import devices
from agclip._clipping import arguments, axis_arguments
from agclip._clipping.apply import apply
from agclip._clipping.decide import Call, Plan, decisions, measure, widened
from agclip._clipping.pipeline import Clipped, clipped, require_finite, write
from agclip._clipping.record import Details, details
from agclip._numerics.coefficient import Decision
from agclip._numerics.ranges import Norm
from agclip._trees.gather import gather, gather_like
from agclip._trees.leaves import Leaves, warn_empty
from agclip._trees.tree import materialised
from agclip._typing import Array, Bound, NonFinite, Number, Scalar, T, Tree, UnitAxes


def adaptive_grad_clip(
    grads: T,
    params: Tree,
    clipping: Bound = 0.01,
    eps: Bound = 1e-3,
    *,
    unit_axes: UnitAxes,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> T:
    """Clip the gradient of every unit to a fraction of the norm of the unit's parameters (AGC).

    ```
    bound_u = clipping · max(‖W_u‖₂, eps)
    out_u = G_u · bound_u / ‖G_u‖₂  if ‖G_u‖₂ > bound_u  else  G_u
    ```

    A unit u is what feeds one output: a row of a (out, in) matrix, a column of an (in, out) one. A
    scalar or vector leaf is one unit.

    Args:
        grads: A tree of real or complex floating-point arrays.
        params: The parameters: a tree of the same structure, its leaves of the same shapes. Where
            there are keys they tell what belongs together, in whatever order. What stands where
            `grads` holds None is not looked at. A NaN makes the gradient of its unit NaN.
        clipping: The largest allowed ratio, λ in the paper: a number >= 0; infinity or None for no
            bound.
        eps: The least norm that a unit's parameters count with, so that units that are zero can
            learn: a number >= 0.
        unit_axes: The axes the norm of one unit is taken over: "out_in" for the layout of PyTorch
            (all but the first), "in_out" for that of Flax and TensorFlow (all but the last), axes,
            or a function of (path, leaf) that returns one of these or None for the whole leaf.
        nonfinite: As for `clip_by_norm`; the group is the unit.
        strict: As for `clip_by_norm`.
        reproducible: As for `clip_by_norm`.
        loss_scale: The positive number that `grads` comes in multiplied by.

    Returns:
        The same tree as `grads` with leaves of the same library, shape, dtype and device.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, or if libraries are mixed.
        ValueError: If the trees or shapes differ, if `clipping` or `eps` is negative or NaN, or if
            `unit_axes` does not fit.
        FloatingPointError: If a unit is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Source: A. Brock, S. De, S. L. Smith, K. Simonyan, "High-performance large-scale image
    recognition without normalization", 2021, arXiv:2102.06171, equation 3.
    """
    leaves = gather(grads, "grads")
    plan = _plan(leaves, clipping, unit_axes, nonfinite, strict, reproducible)
    new = clip(leaves, plan, params, clipping, eps, loss_scale, inplace=False)
    result: T = leaves.rebuild(new.arrays)
    return result


def adaptive_grad_clip_(
    grads: T,
    params: Tree,
    clipping: Bound = 0.01,
    eps: Bound = 1e-3,
    *,
    unit_axes: UnitAxes,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> T:
    """Clip the gradient of every unit to a fraction of its parameters' norm, in place.

    As `adaptive_grad_clip`, but the leaves of `grads` are overwritten. Nothing is written unless
    every check holds.

    Args:
        grads: A tree of arrays that can be written.
        params: As for `adaptive_grad_clip`.
        clipping: As for `adaptive_grad_clip`.
        eps: As for `adaptive_grad_clip`.
        unit_axes: As for `adaptive_grad_clip`.
        nonfinite: As for `adaptive_grad_clip`.
        strict: As for `adaptive_grad_clip`.
        reproducible: As for `adaptive_grad_clip`.
        loss_scale: As for `adaptive_grad_clip`.

    Returns:
        `grads` itself.

    Raises:
        TypeError: As `adaptive_grad_clip`, and if a leaf cannot be overwritten.
        ValueError: As `adaptive_grad_clip`.
        FloatingPointError: As `adaptive_grad_clip`.
        NotImplementedError: As `adaptive_grad_clip`.
    """
    grads = materialised(grads)
    leaves = gather(grads, "grads", inplace=True)
    plan = _plan(leaves, clipping, unit_axes, nonfinite, strict, reproducible)
    write(leaves, clip(leaves, plan, params, clipping, eps, loss_scale, inplace=True))
    return grads


def _plan(
    leaves: Leaves,
    clipping: Any,
    unit_axes: UnitAxes,
    nonfinite: NonFinite | None,
    strict: bool | None,
    reproducible: bool | None,
) -> Plan:
    axes = tuple(
        axis_arguments.unit(unit_axes, leaf, leaves.path(i)) for i, leaf in enumerate(leaves.arrays)
    )
    return Plan(
        axes=axes,
        strict=arguments.check_strict(strict, leaves),
        nonfinite=arguments.policy(nonfinite, clipping),
        reproducible=arguments.check_reproducible(reproducible, 2.0, leaves),
    )


def clip(
    leaves: Leaves,
    plan: Plan,
    params: Tree,
    clipping: Any,
    eps: Any,
    loss_scale: Any,
    *,
    inplace: bool,
) -> Clipped:
    """Clip leaves whose plan names the axes of their units; numbers are checked here.

    In place this decides, and `_clipping.pipeline.write` overwrites.
    """
    clipping = arguments.threshold("clipping", clipping, leaves)
    floor = arguments.floor("eps", eps, leaves)
    loss_scale = arguments.positive("loss_scale", loss_scale, leaves)
    if not leaves.arrays:
        warn_empty(leaves.name)
        return Clipped([], [])
    others = gather_like(leaves, params, "params")
    for each in (leaves, others):
        each.require_whole()
    weights = others.arrays
    call = Call(leaves.backend, plan)
    numbers = (
        float("inf") if clipping is None else clipping,
        floor,
        loss_scale,
    )
    run = leaves.backend.run
    norms = run(_measured, (call,), (leaves.arrays, weights))
    if plan.nonfinite == "error":
        require_finite(leaves, norms[0])
    inplace = inplace and leaves.originals is None
    program = _decided if inplace else _finished
    results = run(program, (call,), (leaves.arrays, norms, *numbers))
    return clipped(leaves, call, results, inplace)


def _measured(
    call: Call, grads: Sequence[Array], params: Sequence[Array]
) -> tuple[list[Norm], list[Norm]]:
    return measure(call, grads), measure(call, params)


def _decided(
    call: Call,
    grads: Sequence[Array],
    norms: tuple[Sequence[Norm], Sequence[Norm]],
    clipping: Scalar,
    floor: Scalar,
    loss_scale: Scalar | None,
) -> tuple[list[Decision], list[Scalar], Details | None]:
    clipping, floor, loss_scale = (
        widened(call, grads, number) for number in (clipping, floor, loss_scale)
    )
    of_grads, of_params = norms
    limits = [call.backend.at(norm.root, _limit, call, norm, floor, clipping) for norm in of_params]
    made, settled = decisions(call, grads, of_grads, limits, loss_scale)
    return made, [], details(call, grads, made, settled, [], loss_scale)


def _limit(call: Call, norm: Norm, floor: Scalar, clipping: Scalar) -> Scalar:
    """Return the bound on a gradient beside a parameter of that norm."""
    xp, value = call.backend.xp, norm.root / norm.scale
    device = call.backend.device(value)
    least, ratio = (devices.to_device(call.backend, x, device) for x in (floor, clipping))
    value = xp.where(value < least, least, value)
    # No bound is no bound, also on parameters of norm zero; and a bound of zero is zero.
    given = (ratio == 0) | xp.isinf(ratio)
    return xp.where(given, ratio, ratio * value)


def _finished(
    call: Call, grads: Sequence[Array], *rest: Any
) -> tuple[list[Array], list[Scalar], Details | None]:
    made, norms, record = _decided(call, grads, *rest)
    return apply(call, grads, made), norms, record
