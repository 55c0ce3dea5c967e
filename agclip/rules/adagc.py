"""A bound for each leaf from the average of its norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agclip._backends import devices
from agclip._backends.backend import Backend
from agclip._clipping import pipeline
from agclip._clipping.measure import widened
from agclip._clipping.plan import Inputs, StaticArgs
from agclip._clipping.record import reported
from agclip._numerics.ranges import Norm
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Tree
from agclip.rules import _checks, _memory, _paths
from agclip.rules._arithmetic import allowing, average, times
from agclip.rules._info import joined
from agclip.rules._layout import COUNT, SIZE, ByPath, Parts
from agclip.rules._rule import Options, State, Step, taken


@dataclass(frozen=True, repr=False)
class AdaGC(_memory.Remembers, Options):
    """Clip each leaf by the moving average of its own norms.

    ```
    c_i = relative · γ_i                                          after `warmup` steps
    c_i = n_i · absolute / n  if n > absolute  else  ∞            before: by the global norm n
    out_i = g_i · c_i / n_i  if n_i > c_i  else  g_i
    γ_i ← decay·γ_i + (1 - decay)·‖out_i‖                         after; before: min(γ_i, ‖out_i‖)
    ```

    A norm that is zero, NaN or infinite does not enter γ: a leaf whose bound had become zero could
    never move again. A leaf that has had no other norm yet is clipped by the global norm. One that
    gets its first gradient after the first step has a warm-up of its own from there. In the record
    `threshold` is √Σ c_i², the largest norm that could have come out (`absolute` before the end of
    the warm-up), and `scale` the smallest coefficient.

    Attributes:
        relative: λ_rel, by what factor a norm may exceed its average: a number > 0.
        absolute: λ_abs, the bound on the global norm during the warm-up: a number > 0.
        decay: β, the weight of the past in the average: between 0 and 1.
        warmup: The number of steps that are clipped by the global norm.

    Example:
        >>> clipper = agclip.Clipper(agclip.AdaGC(warmup=1))
        >>> for norm in (0.5, 50.0):
        ...     clipped, info = clipper({"w": np.array([norm]), "b": np.array([0.1])})
        >>> clipped["w"].tolist(), clipped["b"].tolist()
        ([0.525], [0.1])

    Source: G. Wang et al., "AdaGC: Improving training stability for large language model
    pretraining", 2025, arXiv:2502.11034.
    """

    relative: float = 1.05
    absolute: float = 1.0
    decay: float = 0.98
    warmup: int = 100

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        _checks.positive("relative", self.relative)
        _checks.positive("absolute", self.absolute)
        _checks.fraction("decay", self.decay)
        _checks.count("warmup", self.warmup)

    def _layout(self) -> Parts:
        return {"count": COUNT, "average": ByPath(SIZE)}

    def _run(self, leaves: Leaves, state: State, params: Tree | None, *, inplace: bool) -> Step:
        paths = _paths.paths(leaves)
        state = _memory.joined(
            self, leaves, state, "average", lambda _: _memory.array(leaves, SIZE)
        )
        averages = [
            _memory.here(leaves, state["average"][path], f"state['average'][{path!r}]")
            for path in paths
        ]
        late = _memory.since(leaves, state)
        numbers = self.relative, self.absolute, self.decay, self.warmup
        limits = _FromNorms(tuple(map(float, numbers)))
        plan = self._plan(leaves, 1.0)._replace(limits=limits)
        extra = (state["count"], late, averages)
        outcome = pipeline.run(
            leaves, plan, "bound", None, self.loss_scale, extra=extra, inplace=inplace
        )
        threshold, count, averages = outcome.extra
        state = _memory.advanced(leaves, state, "average", count, averages)
        return taken(outcome, plan.nonfinite, state, inplace=inplace, threshold=threshold)


class _FromNorms(NamedTuple):
    """The limit on each leaf's norm; `Inputs.extra` holds the count, late leaves and averages."""

    numbers: tuple[float, ...]

    def __call__(
        self, call: StaticArgs, norms: Sequence[Norm], inputs: Inputs
    ) -> tuple[list[Any], tuple[Array, Array, list[Array]]]:
        """Return the limits; and the threshold to report, the new count and averages."""
        backend, arrays = call.backend, inputs.arrays
        norm, values = reported(call, norms, inputs)
        count, late, averages = inputs.extra
        bounds, threshold, count, averages = _advance(
            backend, self.numbers, count, late, averages, values, norm, strict=call.plan.strict
        )
        there = [
            devices.to_device(backend, bound, backend.device(leaf))
            for bound, leaf in zip(bounds, arrays, strict=True)
        ]
        known = [_memory.known(backend, bound) for bound in there]
        return [widened(call, arrays, bound) for bound in known], (threshold, count, averages)


def _advance(
    backend: Backend,
    numbers: tuple[float, ...],
    count: Array,
    late: Sequence[Array | None],
    averages: Sequence[Array],
    norms: Sequence[Array],
    norm: Array,
    *,
    strict: bool,
) -> tuple[list[Array], Array, Array, list[Array]]:
    xp = backend.xp
    relative, absolute, decay, warmup = numbers
    old = joined(backend, averages, averages[0])
    n = joined(backend, norms, averages[0])
    whole = joined(backend, [norm], averages[0])[0, ...]
    early = warming = count < int(warmup)
    if any(one is not None for one in late):
        warming = xp.stack([count if one is None else count - one for one in late]) < int(warmup)
    usual = times(xp, old, relative)
    unknown = usual <= 0
    bound = xp.where(warming | unknown, _by_all(xp, n, whole, absolute), usual)
    left = xp.minimum(n, bound)
    moved = xp.where(warming, xp.minimum(old, left), average(xp, old, left, decay))
    enters = xp.isfinite(n) & (left > 0)
    new = xp.where(enters, xp.where(unknown, left, moved), old)
    most = xp.where(early, xp.full_like(whole, absolute), xp.sqrt(xp.sum(bound * bound)))
    if not strict:
        bound = allowing(xp, n, bound)
    every = range(len(norms))
    return [bound[i, ...] for i in every], most, count + 1, [new[i, ...] for i in every]


def _by_all(xp: Any, n: Array, whole: Array, absolute: float) -> Array:
    """Return the bounds that come to clipping all leaves by their global norm."""
    over = xp.isfinite(whole) & (whole > absolute)
    ratio = xp.full_like(whole, absolute) / xp.where(over, whole, xp.ones_like(whole))
    return xp.where(over, n * ratio, xp.full_like(n, math.inf))
