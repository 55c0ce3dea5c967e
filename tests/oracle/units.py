"""Rules whose groups are smaller than a tensor: units of weights, and examples of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from oracle.group import Limit, Treatment, threshold
from oracle.norm import Norm, Root, group_norm, joint_norm
from oracle.tensor import Axes, ExactComplex, Number, Real, Tensor, groups, total


def adaptive_grad_clip(
    grad: Tensor,
    param: Tensor,
    clipping: Real | None = 0.01,
    eps: Real = 1e-3,
    *,
    axes: Axes,
    nonfinite: str = "propagate",
    loss_scale: Real = 1,
) -> Tensor:
    """Clip each unit of a gradient by the norm of the same unit of its parameter.

    Where ``|g| > limit = clipping * max(|p|, eps)``, the unit becomes ``g * limit / |g|``.  A
    parameter of infinite norm sets no limit, one of norm NaN makes the unit NaN.
    Source: Brock et al., 2021, arXiv:2102.06171, equation 3.

    Args:
        grad: The gradient.
        param: The parameter, of the same shape.
        clipping: The largest ratio of the norms.
        eps: The least norm a parameter counts with.
        axes: The axes that a unit extends over; None makes the whole tensor one unit.
        nonfinite: What a unit becomes whose gradient has no finite norm.
        loss_scale: What the gradient, but not the parameter, was multiplied by.
    """
    if grad.shape != param.shape:
        msg = f"`param` must have the shape {grad.shape} of `grad`; got {param.shape}."
        raise ValueError(msg)
    treatment = Treatment(nonfinite, loss_scale)
    members = groups(grad.shape, axes)
    norms = [treatment.unscaled(group_norm([grad.values[i] for i in m])) for m in members]
    sizes = [group_norm([param.values[i] for i in m]) for m in members]
    limits = [_unit_limit(size, threshold(clipping), Root(Fraction(eps))) for size in sizes]
    return treatment.clip_each(grad, members, norms, limits)


def _unit_limit(size: Norm, clipping: Limit, least: Root) -> Limit:
    if not isinstance(clipping, Root):
        return clipping
    if isinstance(size, float):
        return size
    return (size if size.exceeds(least) else least).times(clipping.radicand)


def clip_per_example(
    grads: Sequence[Tensor | None],
    clip_norm: Real | None,
    *,
    ord: Real = 2,
    nonfinite: str = "propagate",
    loss_scale: Real = 1,
) -> tuple[list[Tensor | None], int]:
    """Clip each example by its joint norm over all tensors and add the examples up.

    Source: Abadi et al., 2016, arXiv:1607.00133, algorithm 1, without the noise.

    Args:
        grads: Tensors whose leading axis counts the same examples; None stays None.
        clip_norm: The threshold for each example.
        ord: As in `norm`.
        nonfinite: What an example becomes whose norm is not finite.
        loss_scale: Divided out of the sums.

    Returns:
        The sums, without the leading axis, and the number of examples that the rule changed.
    """
    treatment = Treatment(nonfinite, loss_scale)
    limit = threshold(clip_norm)
    present = [t for t in grads if t is not None]
    columns: list[list[list[Number]]] = [[] for _ in present]
    changed = 0
    for example in range(_examples(present)):
        rows = [_row(t, example) for t in present]
        size = treatment.unscaled(joint_norm(rows, ord))
        results = [treatment.clip(row.values, size, limit) for row in rows]
        changed += any(replaced for _, replaced in results)
        for column, (values, _) in zip(columns, results, strict=True):
            column.append(values)
    sums = iter([_sum(t.shape[1:], rows) for t, rows in zip(present, columns, strict=True)])
    return [None if t is None else next(sums) for t in grads], changed


def _examples(grads: Sequence[Tensor]) -> int:
    """Return the length of the leading axis, which all tensors share."""
    leading = {t.shape[:1] for t in grads}
    if len(leading) > 1 or () in leading:
        msg = f"`grads` must have one leading axis in common; got {[t.shape for t in grads]}."
        raise ValueError(msg)
    return leading.pop()[0] if leading else 0


def _row(t: Tensor, index: int) -> Tensor:
    """Return ``t[index]``."""
    length = math.prod(t.shape[1:])
    return Tensor(t.shape[1:], t.values[index * length : (index + 1) * length])


def _sum(shape: tuple[int, ...], rows: Sequence[Sequence[Number]]) -> Tensor:
    """Add tensors of one shape, given by their entries."""
    return Tensor(shape, tuple(_add([row[i] for row in rows]) for i in range(math.prod(shape))))


def _add(entries: Sequence[Number]) -> Number:
    real = total([e.real for e in entries])
    if any(isinstance(e, ExactComplex) for e in entries):
        return ExactComplex(real, total([e.imag for e in entries]))
    return real
