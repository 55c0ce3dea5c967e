"""A threshold that follows a schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agclip._backends import kernels
from agclip._numerics.axis_sums import add
from agclip._trees.gather import gather
from agclip._trees.stand_in import nothing, standing_in
from agclip._typing import Array, Tree
from agclip.rules import _memory
from agclip.rules._layout import COUNT, Parts
from agclip.rules._rule import State, Step, configured
from agclip.rules.adaptive import AdaptiveGradClip
from agclip.rules.norms import ClipByAverageNorm, ClipByGlobalNorm, ClipByNorm, ClipByRMS

THRESHOLDS: dict[type[Any], str] = {
    ClipByNorm: "clip_norm",
    ClipByAverageNorm: "clip_norm",
    ClipByRMS: "clip_rms",
    ClipByGlobalNorm: "clip_norm",
    AdaptiveGradClip: "clipping",
}
"""The classes that can be scheduled, and the argument that is."""


@dataclass(frozen=True, init=False, repr=False)
class Scheduled(_memory.Remembers):
    """Give a rule another threshold in every step.

    ```
    threshold_t = schedule(t)          t = 0, 1, 2, …
    ```

    `Scheduled(ClipByGlobalNorm, lambda t: 1.0 / (1 + t), nonfinite="zero")` makes the rule with the
    schedule's value for its threshold and the options given. In the record everything is as in that
    of the rule.

    Attributes:
        rule_class: A rule without memory that has one threshold, its first argument.
        schedule: A function of the step, a 0-d float64 array of the gradients' library (float32 on
            devices without it), that returns a number or a 0-d array. Where it is compiled it is
            traced once, so it must not branch on the step in Python.
        options: The rule's other arguments.

    Args:
        rule_class: As the attribute.
        schedule: As the attribute.
        **options: The rule's other arguments, by name.

    Example:
        >>> rule = agclip.Scheduled(agclip.ClipByGlobalNorm, lambda t: 1.0 / (1.0 + t))
        >>> clipper = agclip.Clipper(rule)
        >>> [clipper(np.array([3.0]))[0].tolist() for _ in range(2)]
        [[1.0], [0.5]]
    """

    rule_class: type[Any]
    schedule: Callable[[Array], Any]
    options: tuple[tuple[str, Any], ...]

    def __init__(
        self, rule_class: type[Any], schedule: Callable[[Array], Any], **options: Any
    ) -> None:
        if rule_class not in THRESHOLDS:
            known = ", ".join(one.__name__ for one in THRESHOLDS)
            msg = f"`rule_class` must be one of {known}; got {rule_class!r}."
            raise TypeError(msg)
        if not callable(schedule):
            msg = f"`schedule` must be a function of the step; got {type(schedule).__name__}."
            raise TypeError(msg)
        object.__setattr__(self, "rule_class", rule_class)
        object.__setattr__(self, "schedule", schedule)
        object.__setattr__(self, "options", tuple(options.items()))
        self._made(None)  # so that options that do not fit are found here

    def __repr__(self) -> str:
        said = [self.rule_class.__name__, repr(self.schedule)]
        said += [f"{name}={value!r}" for name, value in self.options if value is not None]
        return f"Scheduled({', '.join(said)})"

    def _made(self, threshold: Any) -> Any:
        return self.rule_class(**{THRESHOLDS[self.rule_class]: threshold}, **dict(self.options))

    def _resolved(self) -> Scheduled:
        """Return the rule with the settings in the place of None."""
        options = dict(self.options)
        open_ = (options.get(name) for name in ("nonfinite", "reproducible", "strict"))
        options |= configured(*open_)
        return Scheduled(self.rule_class, self.schedule, **options)

    def _layout(self) -> Parts:
        return {"step": COUNT}

    def _step(self, grads: Any, state: State, params: Tree | None, *, inplace: bool) -> Step:
        # The rule within checks that the leaves can be overwritten.
        try:
            leaves = gather(grads, "grads", listed=True)
            if not leaves.arrays and not self._joins():
                return super()._step(grads, state, params, inplace=inplace)
            if not leaves.arrays:
                leaves = standing_in(leaves, grads)
            step = _memory.ready(self, leaves, state)["step"]
        except Exception:
            self._fail()
            raise
        grads = nothing(leaves.arrays[0]) if leaves.stand_in else leaves.rebuild(leaves.arrays)
        with leaves.backend.context():
            at, xp = leaves.backend.at, leaves.backend.xp
            at_step = kernels.cast(xp, step, leaves.backend.acc_dtype(xp, leaves.arrays[0]))
            rule = self._made(at(step, self.schedule, at_step))
            taken: Step = rule._step(grads, (), params, inplace=inplace)
        if leaves.stand_in and not inplace:
            taken = taken._replace(tree=leaves.rebuild([]))
        return taken._replace(state={"step": at(step, add, step, 1)})

    def _members(self) -> Sequence[Any]:
        return (self._made(None),)
