"""From a plan and a bound to a clipped tree and its record: what the rules of norms end with."""

from __future__ import annotations

import functools
from typing import Any

from agclip._clipping import arguments, pipeline
from agclip._clipping.decide import Plan
from agclip._clipping.pipeline import Clipped
from agclip._trees.leaves import Leaves, warn_empty
from agclip._typing import Scalar
from agclip.rules._info import ClipInfo, empty_info, info_of
from agclip.rules._rule import State, Step


def clip(
    leaves: Leaves,
    plan: Plan,
    name: str,
    bound: Any,
    loss_scale: Any,
    state: State,
    *,
    inplace: bool,
) -> Step:
    """Clip leaves by a bound that is the rule's argument `name`."""
    bound = arguments.threshold(name, bound, leaves)
    if not leaves.arrays:
        return nothing(leaves, bound, state)
    clipped = pipeline.clip(leaves, plan, bound, loss_scale, inplace=inplace)
    return result(leaves, clipped, bound, plan.nonfinite, state, inplace=inplace)


def nothing(leaves: Leaves, bound: Scalar | None, state: State) -> Step:
    """Return a tree without arrays, and a record of nothing, after a warning."""
    warn_empty(leaves.name)
    return Step(leaves.rebuild([]), state, empty_info(leaves, bound))


def untouched(leaves: Leaves) -> ClipInfo:
    """Return the record of a step in which no rule looked at any leaf."""
    with leaves.backend.context():
        return empty_info(leaves, None)


def result(
    leaves: Leaves,
    clipped: Clipped,
    threshold: Scalar | None,
    policy: str,
    state: State,
    *,
    inplace: bool,
) -> Step:
    """Return the tree of a call of the core, or how to write it, and the record."""
    assert clipped.details is not None, "rules ask for a record"
    info = info_of(leaves, clipped.details, threshold, policy)
    if inplace:
        return Step(None, state, info, functools.partial(pipeline.write, leaves, clipped))
    return Step(leaves.rebuild(clipped.arrays), state, info)
