"""The rules: what they keep of a tree, the thresholds of a fixed run, and states that survive."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import agclip
from agclip._typing import Array, Tree
from agclip.testing.checks.semantics import expect_like
from agclip.testing.harness.calls import all_numbers, leaves, outline, sample
from agclip.testing.harness.check import Check, expect, expect_same, over
from agclip.testing.harness.library import Library

RUN = (0.5, 2.0, math.nan, 1.0, 16.0, 0.75)
"""The norms of a run, one a step."""

TOLERANCE = 2.0**-20
"""Of thresholds where statistics are formed in float32."""


class Case(NamedTuple):
    """A rule, and the thresholds that `RUN` has with it.

    They are the same for every library, because statistics are formed with operations that IEEE 754
    defines to the bit.
    """

    name: str
    rule: Any
    thresholds: tuple[float, ...] = ()


PLAIN = (
    Case("ClipByValue", agclip.ClipByValue(-0.5, 0.75)),
    Case("ClipByNorm", agclip.ClipByNorm(0.5)),
    Case("ClipByNorm, axes", agclip.ClipByNorm(0.5, axes=())),
    Case("ClipByAverageNorm", agclip.ClipByAverageNorm(0.25)),
    Case("ClipByRMS", agclip.ClipByRMS(0.5)),
    Case("ClipByGlobalNorm", agclip.ClipByGlobalNorm(0.5)),
    Case("AdaptiveGradClip", agclip.AdaptiveGradClip(0.5, unit_axes="out_in")),
    Case("Chain", agclip.Chain([agclip.ClipByGlobalNorm(0.5), agclip.ClipByNorm(0.25)])),
    Case("PerGroup", agclip.PerGroup({"w": None, "*": agclip.ClipByGlobalNorm(0.5)})),
)
MEMORY = (
    Case("AutoClip", agclip.AutoClip(40.0, window=3), (0.5, 1.1, 1.1, 0.9, 1.8, 0.95)),
    Case(
        "ZClip",
        agclip.ZClip(warmup=2, max_norm=None),
        (math.inf, math.inf, 3.1250025, 3.1250025, 3.092146363524814, 3.0737457622532154),
    ),
    Case("AdaGC", agclip.AdaGC(warmup=2), (1.0, 1.0, 0.525, 0.525, 0.525525, 0.5260505249999999)),
    Case("SpikeClip", agclip.SpikeClip(4.0, warmup=1), (4.0,) * 6),
    Case(
        "QuantileClip",
        agclip.QuantileClip(),
        (
            0.1,
            0.11051709180756478,
            0.12214027581601701,
            0.12214027581601701,
            0.13498588075760035,
            0.14918246976412708,
        ),
    ),
    Case(
        "Scheduled",
        agclip.Scheduled(agclip.ClipByGlobalNorm, lambda step: 2.0 / (1 + step)),
        (2.0, 1.0, 0.6666666666666666, 0.5, 0.4, 0.3333333333333333),
    ),
)


def rules_keep_the_tree(library: Library, case: Case) -> None:
    """A rule returns the same containers, and leaves of the same kinds, with a record of arrays."""
    tree = sample(library)
    clipped, state, info = library.call(_step(case.rule), tree, case.rule.init(tree))
    expect(outline(clipped) == outline(tree), f"{case.name} must keep the tree; got {clipped}")
    for before, after in zip(leaves(tree), leaves(clipped), strict=True):
        expect_like(library, case.name, before, after)
    for name in ("norm", "scale", "threshold", "clipped", "nonfinite", "skip"):
        expect_scalar(library, f"{name} of {case.name}", getattr(info, name), tree)
    wanted, got = _keys(case.rule.init(tree)), _keys(state)
    expect(got == wanted, f"the state of {case.name} must have the keys {wanted}; got {got}")


def expect_scalar(library: Library, what: str, value: Array, tree: Tree) -> None:
    """Check that a value is a 0-d array of the library, on the device of the first leaf."""
    expect(tuple(value.shape) == (), f"{what} must be a 0-d array; got shape {value.shape}")
    device = library.record.device
    wanted, got = device(leaves(tree)[0]), device(value)
    expect(got == wanted, f"{what} must be on the device {wanted}; got {got}")


def rules_have_the_thresholds_of_a_run(library: Library, case: Case) -> None:
    """The thresholds of a fixed run, with a NaN in it, are the same as everywhere."""
    infos, _ = _ran(library, case.rule, RUN)
    got = [library.numbers(info.threshold)[0] for info in infos]
    if library.sums_in_float64:
        expect_same(got, case.thresholds, f"the thresholds of {case.name}")
        return
    pairs = zip(got, case.thresholds, strict=True)
    near = all(a == b or abs(a - b) <= TOLERANCE * abs(b) for a, b in pairs)
    expect(near, f"the thresholds of {case.name} must be {case.thresholds}; got {got}")


def rules_learn_nothing_from_what_is_not_finite(library: Library, case: Case) -> None:
    """A NaN and an infinity count as steps, and enter no statistic."""
    _, before = _ran(library, case.rule, RUN[:2])
    infos, after = _ran(library, case.rule, (math.nan, math.inf), before)
    facts = [all_numbers(library, [info.nonfinite, info.skip]) for info in infos]
    expect_same(facts, [[True, True]] * 2, f"nonfinite and skip of {case.name}")
    counts = ("count", "step")
    kept = [{key: state[key] for key in state if key not in counts} for state in (before, after)]
    wanted, got = (all_numbers(library, state) for state in kept)
    expect_same(got, wanted, f"the statistics of {case.name}")


def states_survive_saving(library: Library, case: Case) -> None:
    """A state that is saved and loaded goes on as the one that stays."""
    library.require(library.wrap is None, "threads states through compiled code")
    stays, arrives = agclip.Clipper(case.rule), agclip.Clipper(case.rule)
    for norm in RUN[:4]:
        stays(_gradients(library, norm))
    arrives.load_state_dict(stays.state_dict())
    wanted = stays(_gradients(library, RUN[4]))[1].to_host()
    got = arrives(_gradients(library, RUN[4]))[1].to_host()
    expect(got == wanted, f"{case.name} must go on with {wanted}; got {got}")


def _keys(state: Any) -> Any:
    """Return the keys of a state in order: a compiler may sort them."""
    if isinstance(state, dict):
        return [(key, _keys(state[key])) for key in sorted(state)]
    return () if isinstance(state, tuple) else "array"


def _gradients(library: Library, norm: float) -> Tree:
    return {"w": library.array([norm], "float32")}


@functools.cache
def _step(rule: Any) -> Callable[..., Any]:
    """Return one function a rule: a compiler keeps what it has compiled for it."""
    return lambda grads, state: rule.update(grads, state, grads)


def _ran(
    library: Library, rule: Any, norms: Sequence[float], state: Any = None
) -> tuple[list[agclip.ClipInfo], Any]:
    infos = []
    if state is None:
        state = rule.init(_gradients(library, 1.0))
    for norm in norms:
        _, state, info = library.call(_step(rule), _gradients(library, norm), state)
        infos.append(info)
    return infos, state


def checks() -> list[Check]:
    """Return the checks of this file."""
    return [
        *over([*PLAIN, *MEMORY], rules_keep_the_tree),
        *over(
            MEMORY,
            rules_have_the_thresholds_of_a_run,
            rules_learn_nothing_from_what_is_not_finite,
            states_survive_saving,
        ),
    ]
