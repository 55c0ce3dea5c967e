"""One rule after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agclip._registry import resolve
from agclip._typing import Tree
from agclip.rules._info import ClipInfo
from agclip.rules._rule import Rule, State, Steps, check_rule, resolved, step


@dataclass(frozen=True)
class Chain(Steps):
    """Apply rules one after another, each to what the one before it returns.

    In the record the norms are those that came in to the first rule, `scale` is the product of the
    scales, `threshold` that of the last rule, `clipped` whether any rule clipped, and `nonfinite`
    whether a NaN or an infinity came in to any. A loss scale belongs to the first rule.

    Attributes:
        rules: The rules in order, at least one.
    """

    rules: Sequence[Rule]

    def __post_init__(self) -> None:
        """Check the rules."""
        rules = tuple(self.rules) if isinstance(self.rules, (list, tuple)) else ()
        if not rules:
            msg = f"`rules` must be a list of at least one rule; got {self.rules!r}."
            raise TypeError(msg)
        for position, rule in enumerate(rules):
            check_rule(f"rules[{position}]", rule)
        object.__setattr__(self, "rules", rules)

    def resolved(self) -> Chain:
        """Return the chain with the settings in the place of None."""
        return Chain([resolved(rule) for rule in self.rules])

    def init(self, params: Tree) -> State:
        """Return the states of the rules, by position."""
        return {str(i): rule.init(params) for i, rule in enumerate(self.rules)}

    def _step(
        self, grads: Any, state: State, params: Tree | None, *, inplace: bool
    ) -> tuple[Any, State, ClipInfo]:
        new, states, infos = grads, {}, []
        for i, rule in enumerate(self.rules):
            new, states[str(i)], info = step(rule, new, state[str(i)], params, inplace=inplace)
            infos.append(info)
        return new, states, _joined(infos)


def _joined(infos: Sequence[ClipInfo]) -> ClipInfo:
    last = joined = infos[0]
    backend = resolve(last.norm)
    assert backend is not None, "records hold arrays"
    with backend.context():
        for last in infos[1:]:
            joined = joined._replace(
                scale=joined.scale * last.scale,
                clipped=joined.clipped | last.clipped,
                nonfinite=joined.nonfinite | last.nonfinite,
            )
    return joined._replace(threshold=last.threshold, skip=last.skip)
