"""What a rule is: two pure functions, and options that most rules share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self, cast, runtime_checkable

from agclip import config
from agclip._checks import describe
from agclip._clipping import arguments
from agclip._clipping.pipeline import Outcome
from agclip._clipping.plan import Plan
from agclip._trees.gather import gather
from agclip._trees.leaves import Leaves, warn_empty
from agclip._trees.stand_in import Nothing, standing_in
from agclip._trees.tree import materialised
from agclip._typing import NonFinite, Number, Replicas, Scalar, T, Tree
from agclip.distributed import _telling
from agclip.distributed._joined import ranks_of
from agclip.distributed._links import links
from agclip.rules import _checks
from agclip.rules._info import ClipInfo, empty_info, info_of
from agclip.rules._kept import Kept

State = Any
"""What a rule remembers: `()`, or a dict of arrays and dicts under string keys."""


@runtime_checkable
class Rule(Protocol):
    """What turns gradients into clipped ones; calling code never changes when the rule does.

    Rules are values: they remember nothing themselves. Both functions may be called inside of
    `jax.jit` and `torch.compile`, and are traced once for all steps.

    >>> rule, grads = agclip.ZClip(), [np.asarray([3.0, 4.0])]
    >>> clipped, state, info = rule.update(grads, rule.init(grads))
    """

    def init(self, params: Tree) -> State:
        """Return the state before the first step.

        Args:
            params: The parameters, or gradients: a tree of the structure of the gradients.
        """
        ...

    def update(
        self, grads: T, state: State, params: Tree | None = None
    ) -> tuple[T, State, ClipInfo]:
        """Clip the gradients of one step.

        Args:
            grads: A tree of gradients.
            state: What `init` or the last step returned.
            params: The parameters, for rules that look at them.

        Returns:
            The clipped tree, the state for the next step, and a record of what has been done.
        """
        ...


def _nothing() -> None:
    """Write nothing."""


class Step(NamedTuple):
    """A step that has been decided on; in place nothing has been written yet."""

    tree: Any
    """The clipped tree; None in place, where it is the one that came in."""
    state: State
    info: ClipInfo
    write: Callable[[], None] = _nothing
    """In place: overwrite the gradients. All that can fail has been done by then."""
    traced: bool | None = None
    """Whether the record is of traced arrays; None where nobody has looked."""


class Steps:
    """The two public ways of taking a step, for a rule that has `_step`."""

    def init(self, params: Tree) -> State:
        """Return the state before the first step: nothing."""
        return ()

    def update(
        self, grads: T, state: State, params: Tree | None = None
    ) -> tuple[T, State, ClipInfo]:
        """Clip the gradients of one step; see `Rule.update`."""
        taken = self._step(materialised(grads), state, params, inplace=False)
        state = taken.state
        return taken.tree, state.arrays() if type(state) is Kept else state, taken.info

    def update_(
        self, grads: T, state: State, params: Tree | None = None
    ) -> tuple[T, State, ClipInfo]:
        """Clip the gradients of one step as `update` does, but overwrite them.

        Everything is checked and decided before anything is written. A generator of gradients is
        returned as the list of them.
        """
        grads = materialised(grads)
        taken = self._step(grads, state, params, inplace=True)
        taken.write()
        state = taken.state
        return grads, state.arrays() if type(state) is Kept else state, taken.info

    def _step(self, grads: Any, state: State, params: Tree | None, *, inplace: bool) -> Step:
        """Take the tree apart, and decide; a tree without arrays is done with."""
        try:
            leaves = gather(grads, "grads", listed=True, inplace=inplace)
        except Exception:
            self._fail()
            raise
        if leaves.arrays:
            return self._run(leaves, state, params, inplace=inplace)
        if self._joins():
            return self._run(standing_in(leaves, grads), state, params, inplace=inplace)
        if not isinstance(grads, Nothing):
            warn_empty(leaves.name)
        return Step(leaves.rebuild([]), state, empty_info(leaves, self._limit_of_nothing(leaves)))

    def _limit_of_nothing(self, leaves: Leaves) -> Scalar | None:
        """Return the bound to report of a tree without arrays; None for none."""
        return None

    def _members(self) -> Sequence[Any]:
        """Return the rules that this one is made of, in the order in which they act."""
        return ()

    def _joins(self) -> bool:
        """Tell whether a step takes part in norms over ranks, whatever is held here."""
        return any(isinstance(rule, Steps) and rule._joins() for rule in self._members())

    def _fail(self) -> None:
        """Say to the ranks that wait for this one, if any do, that it has failed."""
        for rule in self._members():
            if isinstance(rule, Steps) and rule._joins():
                rule._fail()
                return

    def _run(self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool) -> Step:
        """Decide on leaves, of which there is at least one."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Show the arguments that differ from the defaults, those without a name first."""
        shown = sorted(dataclasses.fields(cast("Any", self)), key=lambda one: one.kw_only is True)
        pairs = ((one.name, getattr(self, one.name), one.default) for one in shown if one.repr)
        said = [f"{name}={value!r}" for name, value, default in pairs if not _same(value, default)]
        return f"{type(self).__name__}({', '.join(said)})"


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(Steps):
    """Options that rules of norms share.

    Attributes:
        nonfinite: What becomes of a group with a NaN or an infinity: "propagate", "error", "zero"
            or "skip", as for the functions; None for what the settings say.
        strict: The exact norm of what comes out is within the bound; None likewise.
        reproducible: The same bits from every library; None likewise.
        loss_scale: What the gradients come in multiplied by, and are divided by: a number > 0.
        comm: Who else holds gradients of the same tree, for rules of a global norm: as for
            `clip_by_global_norm`; None for what the types of the gradients tell.
        replicas: On how many ranks of `comm` each leaf is held, likewise; None for one each.
    """

    nonfinite: NonFinite | None = None
    strict: bool | None = None
    reproducible: bool | None = None
    loss_scale: Number | None = None
    comm: Any = None
    replicas: Replicas = None

    _joint: ClassVar[bool] = False
    """Whether the rule is one of a global norm."""

    def __post_init__(self) -> None:
        """Check the options as far as they can be read."""
        _checks.ranks(self.comm, self.replicas, joint=self._joint)
        _checks.policy(self.nonfinite)
        _checks.flag("strict", self.strict)
        _checks.flag("reproducible", self.reproducible)
        _checks.positive("loss_scale", self.loss_scale, none="None")

    def _resolved(self) -> Self:
        """Return the rule with the settings in the place of None."""
        return replace(self, **configured(self.nonfinite, self.reproducible, self.strict))

    def _plan(self, leaves: Leaves, bound: Any, order: Any = 2, **form: Any) -> Plan:
        """Return what the core is to do, a record included."""
        linked = self.comm is None
        plan = arguments.options(
            leaves, bound, order, self.nonfinite, self.strict, self.reproducible,
            record=True, linked=linked, **form,
        )  # fmt: skip
        if linked:
            return plan
        return plan._replace(ranks=ranks_of(leaves, self.comm, self.replicas, self._facts()))

    def _facts(self) -> tuple[Any, ...]:
        """Return what has to be the same on every rank, besides the plan and its numbers."""
        return (type(self).__name__,)

    def _joins(self) -> bool:
        return self.comm is not None and bool(links(self.comm))

    def _fail(self) -> None:
        if self.comm is not None:
            _telling.failed(self.comm, getattr(self, "ord", 2), self.reproducible)


def taken(
    outcome: Outcome, policy: str, state: State, *, inplace: bool, threshold: Scalar | None = None
) -> Step:
    """Return the step that a call of the pipeline makes: the tree, or how to write it.

    Its record reports the bound of the call where there is no other threshold.
    """
    assert outcome.record is not None, "rules ask for a record"
    if threshold is None and outcome.record.threshold is None:
        threshold = math.inf if outcome.bound is None else outcome.bound
    leaves = outcome.leaves
    info = info_of(leaves, outcome.record, threshold, policy)
    traced = leaves.access == "never"
    if inplace:
        return Step(None, state, info, outcome.write, traced)
    return Step(outcome.tree(), state, info, _nothing, traced)


def check_rule(name: str, rule: Any) -> None:
    """Raise a TypeError unless an argument is a rule."""
    if isinstance(rule, type) or not isinstance(rule, Rule):
        found = describe(rule)
        msg = f"`{name}` must be a rule, such as ClipByGlobalNorm(1.0); got {found}."
        raise TypeError(msg)


def configured(
    nonfinite: NonFinite | None, reproducible: bool | None = None, strict: bool | None = None
) -> dict[str, Any]:
    """Return options by name, with the settings in the place of None."""
    settings = config.current()
    return {
        "nonfinite": settings.nonfinite if nonfinite is None else nonfinite,
        "strict": settings.strict if strict is None else strict,
        "reproducible": settings.reproducible if reproducible is None else reproducible,
    }


def joins(rule: Rule | None) -> bool:
    """Tell whether a rule takes part in norms over ranks, whatever is held here."""
    return isinstance(rule, Steps) and rule._joins()


def resolved(rule: Rule) -> Rule:
    """Return a rule with the settings in the place of None; others than ours as they are."""
    make = getattr(rule, "_resolved", None)
    return rule if make is None else make()


def decides(rule: Rule) -> bool:
    """Tell whether the steps of a rule are those of `Steps`, which decide first and write then."""
    cls: Any = type(rule)
    return (
        getattr(cls, "update", None) is Steps.update
        and getattr(cls, "update_", None) is Steps.update_
    )


def step(rule: Rule, grads: Any, state: State, params: Tree | None, *, inplace: bool) -> Step:
    """Take a step of a rule, in place or not; of one that `decides` it is not written yet.

    Raises:
        TypeError: If a rule of another's making has no `update_`.
    """
    if decides(rule):
        ours: Any = rule
        taken: Step = ours._step(grads, state, params, inplace=inplace)
        return taken
    if not inplace:
        return Step(*rule.update(grads, state, params))
    update = getattr(rule, "update_", None)
    if update is None:
        msg = (
            f"`rule` must have update_ to work in place; got {type(rule).__name__}. Use it without "
            f"`inplace`."
        )
        raise TypeError(msg)
    return Step(*update(grads, state, params))
