"""Clipping each example's gradient and summing: the bounded sum of private training."""

from __future__ import annotations

from collections.abc import Sequence

from agclip._backends import devices, kernels
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._clipping import arguments
from agclip._clipping.decide import Call, Plan, decisions, widened
from agclip._clipping.pipeline import require_finite
from agclip._numerics import axis_sums
from agclip._numerics.norms import axis_norms
from agclip._numerics.ranges import Norm
from agclip._trees.default_backend import make
from agclip._trees.gather import gather
from agclip._trees.leaves import Leaves, warn_empty
from agclip._typing import Array, Bound, NonFinite, Number, Scalar, T


def clip_per_example(
    grads: T,
    clip_norm: Bound,
    *,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> tuple[T, Array]:
    """Clip the gradient of every example by its global L2 norm, and sum over the examples.

    ```
    n_b = sqrt(Σ over all leaves |g_b|²)
    out = Σ_b g_b · min(1, clip_norm / n_b)
    ```

    One example changes the sum by at most `clip_norm`: what differentially private training adds
    noise to. Products and sums are formed in float64 where the device has it, and rounded once.

    Args:
        grads: A tree of real or complex floating-point arrays whose leading axis is the example,
            of the same length in every leaf.
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        nonfinite: What becomes of an example with a NaN or an infinity: "propagate" makes the sum
            NaN, "error" raises, "zero" leaves the example out, "skip" adds it as it is; None for
            what is configured, which is "propagate" by default.
        strict: As for `clip_by_norm`; without it an example may exceed the bound by a rounding.
        reproducible: As for `clip_by_norm`, for the norms and coefficients. The sum over examples
            is an ordinary one.
        loss_scale: The positive number that `grads` comes in multiplied by.

    Returns:
        The same tree with leaves one axis shorter; and the number of examples that were clipped or
        not finite, a 0-d int32 array.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, or if libraries are mixed.
        ValueError: If a leaf has no leading axis or another length, or `clip_norm` is negative, NaN
            or not a scalar.
        FloatingPointError: If an example is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Source: M. Abadi et al., "Deep learning with differential privacy", 2016, arXiv:1607.00133,
    algorithm 1; optax's `per_example_global_norm_clip`.
    """
    leaves = gather(grads, "grads")
    bound = arguments.threshold("clip_norm", clip_norm, leaves)
    loss_scale = arguments.positive("loss_scale", loss_scale, leaves)
    plan = Plan(
        joint=True,
        strict=arguments.check_strict(strict, leaves),
        nonfinite=arguments.policy(nonfinite, clip_norm),
        reproducible=arguments.check_reproducible(reproducible, 2.0, leaves),
    )
    if not leaves.arrays:
        warn_empty(leaves.name)
        return leaves.rebuild([]), make(0, "int32")
    _check_examples(leaves)
    leaves.require_whole()
    backend = leaves.backend
    call = (Call(backend, plan),)
    norm = backend.run(_measured, call, (leaves.arrays,))
    if plan.nonfinite == "error":
        require_finite(leaves, [norm])
    bound = float("inf") if bound is None else bound
    sums, count = backend.run(_summed, call, (leaves.arrays, norm, bound, loss_scale))
    result: T = leaves.rebuild(sums)
    # A sum of NumPy is a scalar; the count is promised to be a 0-d array.
    return result, leaves.own(backend.xp.asarray(count))


def _check_examples(leaves: Leaves) -> None:
    first = leaves.arrays[0]
    for i, leaf in enumerate(leaves.arrays):
        if leaf.ndim == 0 or leaf.shape[0] != first.shape[0]:
            found = f"shape {tuple(leaf.shape)} at {leaves.path(i)}"
            beside = f" beside {tuple(first.shape)} at {leaves.path(0)}" if i else ""
            msg = (
                f"`{leaves.name}` must have one leading axis, the example, of the same length in "
                f"every leaf; got {found}{beside}."
            )
            raise ValueError(msg)


def _measured(call: Call, arrays: Sequence[Array]) -> Norm:
    """Return the norms of the examples, a vector."""
    xp = call.backend.xp
    columns = [leaf if leaf.ndim > 1 else xp.reshape(leaf, (-1, 1)) for leaf in arrays]
    axes = [tuple(range(1, leaf.ndim)) for leaf in columns]
    root, scale, finite, _ = axis_norms(
        call.backend, columns, axes, 2.0, reproducible=call.plan.reproducible
    )
    if not isinstance(scale, float):
        scale = xp.reshape(scale, (-1,))
    return Norm(xp.reshape(root, (-1,)), scale, xp.reshape(finite, (-1,)))


def _summed(
    call: Call,
    arrays: Sequence[Array],
    norm: Norm,
    bound: Scalar,
    loss_scale: Scalar | None,
) -> tuple[list[Array], Array]:
    backend, xp = call.backend, call.backend.xp
    bound = widened(call, arrays, bound)
    loss_scale = widened(call, arrays, loss_scale)
    (decision,), _ = decisions(call, arrays, [norm], [bound], loss_scale)
    factors = [part for part in decision.factor.wide if part is not None]
    # Integers of 32 bits would be summed in 64, which a device may lack.
    count = xp.sum(xp.astype(decision.limited, call.wide(arrays)))
    zero = call.plan.nonfinite == "zero"
    sums = [_weighted_sum(backend, leaf, factors, decision.finite, zero) for leaf in arrays]
    return sums, xp.astype(count, xp.int32)


def _weighted_sum(
    backend: Backend, leaf: Array, factors: Sequence[Array], finite: Array, zero: bool
) -> Array:
    """Return the sum of examples times their factors, formed in the wide dtype."""
    xp = backend.xp
    wide = backend.wide(xp, leaf)
    if kind_of(leaf.dtype).family == "complex":
        wide = xp.complex128 if kind_of(wide).precision == 53 else xp.complex64
    real = backend.wide(xp, leaf)

    def of_rows(rows: Array, _: tuple[int, ...], finite: Array, *factors: Array) -> Array:
        y = kernels.cast(xp, rows, wide)
        for factor in factors:
            y = y * kernels.cast(xp, factor, real)
        if zero:
            y = xp.where(finite, y, xp.zeros_like(y))
        return xp.sum(y, axis=0)

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
