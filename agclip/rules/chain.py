"""One rule after another."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from agclip._backends.registry import resolve
from agclip._trees.leaves import Leaves
from agclip._trees.stand_in import nothing
from agclip._typing import Tree
from agclip.rules import _members
from agclip.rules._info import ClipInfo
from agclip.rules._layout import Layout, layout_of
from agclip.rules._rule import Rule, State, Step, Steps, check_rule, resolved


@dataclass(frozen=True, init=False, repr=False)
class Chain(Steps):
    """Apply rules one after another, each to what the one before it returns.

    In the record the norms are those that came in to the first rule, `scale` is the product of the
    scales, `threshold` that of the last rule, `clipped` whether any rule clipped, and `nonfinite`
    whether a NaN or an infinity came in to any. A loss scale belongs to the first rule.

    In place every rule is applied to new arrays first, and the last result is written when all have
    succeeded: where something is clipped this takes memory for the gradients once more.

    Attributes:
        rules: The rules in order.

    Args:
        rules: The rules in order, at least one: as a list, or one after the other.
        *more: The other rules, if the first one is given by itself.

    Example:
        >>> rule = agclip.Chain(agclip.ClipByGlobalNorm(1.0), agclip.ClipByValue(-0.7, 0.7))
        >>> agclip.Clipper(rule)(np.array([3.0, 4.0]))[0]
        array([0.6, 0.7])
    """

    rules: tuple[Rule, ...]

    def __init__(self, rules: Rule | Sequence[Rule], *more: Rule) -> None:
        chosen = tuple(rules) if isinstance(rules, (list, tuple)) else (rules,)
        if not chosen:
            msg = f"`rules` must be a list of at least one rule; got {rules!r}."
            raise TypeError(msg)
        chosen += more
        for position, rule in enumerate(chosen):
            check_rule(f"rules[{position}]", rule)
        object.__setattr__(self, "rules", chosen)

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.rules))})"

    def _resolved(self) -> Chain:
        """Return the chain with the settings in the place of None."""
        return Chain([resolved(rule) for rule in self.rules])

    def _members(self) -> Sequence[Rule]:
        return self.rules

    def init(self, params: Tree) -> State:
        """Return the states of the rules, by position."""
        return {str(i): rule.init(params) for i, rule in enumerate(self.rules)}

    def _layout(self) -> Layout:
        return {str(i): layout_of(rule) for i, rule in enumerate(self.rules)}

    def _run(self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool) -> Step:
        try:
            held = _members.states(state, list(map(str, range(len(self.rules)))))
        except Exception:
            self._fail()
            raise
        new, infos = leaves.rebuild(leaves.arrays), []
        if leaves.stand_in:
            new = nothing(leaves.arrays[0])
        states = {}
        for i, rule in enumerate(self.rules):
            taken = _members.decided(rule, new, held.get(str(i), ()), params)
            new, states[str(i)] = taken.tree, taken.state
            infos.append(taken.info)
            if leaves.stand_in:
                new = nothing(leaves.arrays[0])
        info = _joined(infos)
        if leaves.stand_in:
            return Step(None if inplace else leaves.rebuild([]), states, info)
        if inplace:
            return Step(None, states, info, functools.partial(_members.overwrite, leaves, new))
        return Step(new, states, info)


def _joined(infos: Sequence[ClipInfo]) -> ClipInfo:
    last = joined = infos[0]
    backend = resolve(last.norm)
    assert backend is not None, "records hold arrays"
    with backend.context():
        for last in infos[1:]:
            joined = backend.at(last.norm, _both, joined, last)
    return joined._replace(threshold=last.threshold, skip=last.skip)


def _both(one: ClipInfo, other: ClipInfo) -> ClipInfo:
    return one._replace(
        scale=one.scale * other.scale,
        clipped=one.clipped | other.clipped,
        nonfinite=one.nonfinite | other.nonfinite,
    )
