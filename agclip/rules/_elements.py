"""Clips of single elements: what they have done, and how they are written in place."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from agclip._backends import devices, kernels
from agclip._backends.backend import Backend
from agclip._backends.fused import Details
from agclip._clipping import across, by_value, pipeline
from agclip._clipping.plan import Plan
from agclip._trees.distinct import deduplicated
from agclip._trees.leaves import Leaves
from agclip._typing import Array, NonFinite, Scalar
from agclip.distributed._joined import ranks_of
from agclip.rules._info import ClipInfo, info_of
from agclip.rules._rule import State, Step

BOUND = "a real number, an array of them, or None"


def info(
    leaves: Leaves,
    before: Sequence[Array],
    after: Sequence[Array],
    threshold: Scalar,
    loss_scale: Scalar | None,
    policy: NonFinite = "skip",
) -> ClipInfo:
    """Return the record of a clip that takes `before`, without the loss scale, to `after`."""
    plan = Plan(joint=True, nonfinite=policy, record=True)
    if leaves.cuts is not None:
        plan = plan._replace(ranks=ranks_of(leaves, None, None))
    norm, norms = pipeline.norms(leaves, plan, loss_scale)
    scale, clipped, nonfinite, skip = leaves.backend.run(
        _compared, (leaves.backend,), (list(before), list(after))
    )
    if plan.ranks is not None and plan.ranks.links:
        least, *facts = across.largest(leaves, plan, [-scale, clipped, nonfinite, skip])
        scale, (clipped, nonfinite, skip) = -least, (fact > 0 for fact in facts)
    made = info_of(leaves, Details(norm, norms, scale, clipped, nonfinite), threshold, "skip")
    return made._replace(skip=skip)


def _compared(
    backend: Backend, before: Sequence[Array], after: Sequence[Array]
) -> tuple[Array, Array, Array, Array]:
    """Return the least |out|/|in|, and whether an element changed, was, and is not finite."""
    xp = backend.xp
    pairs = zip(before, after, strict=True)
    rows = [backend.at(pair[0], _compared_leaf, backend, *pair) for pair in pairs]
    least, changed, bad, still = zip(*rows, strict=True)
    return (
        devices.reduce(backend, least, xp.minimum),
        *(devices.anywhere(backend, facts) for facts in (changed, bad, still)),
    )


def _compared_leaf(
    backend: Backend, before: Array, after: Array
) -> tuple[Array, Array, Array, Array]:
    xp, acc_dtype = backend.xp, backend.acc_dtype(backend.xp, before)
    old, new = (kernels.computable(xp, x) for x in (before, after))
    finite = xp.isfinite(old)
    size = xp.abs(old)
    ordinary = finite & (size > 0)
    size = xp.where(ordinary, size, xp.ones_like(size))
    ratio = xp.where(ordinary, xp.abs(new) / size, xp.ones_like(size))
    return (
        kernels.cast(xp, kernels.least(xp, ratio), acc_dtype),
        xp.any(xp.not_equal(new, old) & finite),
        xp.any(xp.logical_not(finite)),
        xp.any(xp.logical_not(xp.isfinite(new))),
    )


def unscaled(leaves: Leaves, loss_scale: Scalar | None) -> list[Array]:
    """Return the leaves divided by the loss scale."""
    if loss_scale is None:
        return list(leaves.arrays)
    return list(by_value.clip(leaves, None, None, loss_scale, inplace=False))


def step(
    leaves: Leaves, after: Sequence[Array], state: State, made: ClipInfo, *, inplace: bool
) -> Step:
    """Return the step that new elements make: the tree, or how to write it."""
    if inplace:
        return Step(None, state, made, functools.partial(_write, leaves, after))
    return Step(leaves.rebuild(after), state, made)


def _write(leaves: Leaves, after: Sequence[Array]) -> None:
    """Overwrite each distinct leaf with its new elements."""
    if leaves.originals is not None:
        leaves.overwrite(after)
        return
    unwritten = deduplicated(leaves.backend, leaves.arrays)
    for leaf, new in zip(leaves.arrays, after, strict=True):
        for one in unwritten([leaf]):
            kernels.write(one, new)
