"""Rules that are members of another: each decides, and all write afterwards."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from agclip._backends import kernels
from agclip._trees.distinct import deduplicated
from agclip._trees.gather import gather
from agclip._trees.leaves import Leaves
from agclip._trees.stand_in import standing_in
from agclip._trees.tree import flatten
from agclip._typing import Tree
from agclip.rules import _checks
from agclip.rules._kept import arrays
from agclip.rules._rule import Rule, State, Step, Steps, joins


def decided(
    rule: Rule, grads: Any, state: State, params: Tree | None, *, inplace: bool = False
) -> Step:
    """Decide on a step of a member; nothing is written yet.

    A state that has not been made yet, `()`, is made from the gradients. In place a rule of
    another's making returns new arrays, which are written afterwards.
    """
    if isinstance(rule, Steps):
        taken = rule._step(grads, state, params, inplace=inplace)
        return taken._replace(state=arrays(taken.state))
    leaves = gather(grads, "grads", listed=True, inplace=True) if inplace else None
    if isinstance(state, tuple) and not state:
        state = rule.init(grads)
    new, state, info = rule.update(grads, state, params)
    if leaves is None:
        return Step(new, state, info)
    return Step(None, state, info, functools.partial(overwrite, leaves, new))


def taking_part(rule: Rule, tree: Tree, name: str) -> Leaves:
    """Return the leaves of a tree, or what stands in for them where other ranks wait for a rule."""
    try:
        leaves = gather(tree, name, listed=True)
    except Exception:
        if isinstance(rule, Steps):
            rule._fail()
        raise
    return standing_in(leaves, tree) if joins(rule) and not leaves.arrays else leaves


def states(state: State, names: Sequence[str]) -> Mapping[str, State]:
    """Return the states of the members by name; none of them if nothing has been made yet.

    Raises:
        TypeError: If the state is neither a dict nor empty.
        ValueError: If it holds that of another than the members.
    """
    held = _checks.begun(state) or {}
    strange = [key for key in held if key not in names]
    if strange:
        msg = (
            f"`state` must be what init(params) or the last step of this rule returned, with the "
            f"keys {', '.join(map(repr, names))}; got {strange[0]!r}. Begin with init(params)."
        )
        raise ValueError(msg)
    return held


def overwrite(leaves: Leaves, new: Tree) -> None:
    """Write the leaves of a clipped tree into those that it was made from.

    Raises:
        TypeError: If a sparse one stores other elements than before.
    """
    if leaves.sparse is None:
        results, _ = flatten(new, leaves.name, listed=True)
    else:
        results = _stored(leaves, new)
    if leaves.wholes is not None:  # the parts of what has been made of the whole ones
        results = list(gather(new, leaves.name, listed=True).arrays)
    targets = leaves.arrays if leaves.originals is None else leaves.originals
    unwritten = deduplicated(leaves.backend, leaves.arrays)
    for leaf, target, one in zip(leaves.arrays, targets, results, strict=True):
        if one is not target and unwritten([leaf]):
            kernels.write(target, one)


def _stored(leaves: Leaves, new: Tree) -> list[Any]:
    """Return what the leaves of a clipped tree store."""
    results = list(gather(new, leaves.name, listed=True).arrays)
    for i, (leaf, one) in enumerate(zip(leaves.arrays, results, strict=True)):
        if tuple(leaf.shape) != tuple(one.shape):
            msg = (
                f"`rule` must keep the stored elements of sparse leaves to work in place; got "
                f"{tuple(one.shape)} of them for {tuple(leaf.shape)} at {leaves.path(i)}. Use it "
                f"without `inplace`."
            )
            raise TypeError(msg)
    return results
