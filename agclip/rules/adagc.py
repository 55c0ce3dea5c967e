"""A bound for each leaf from the average of its norms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agclip._backends import devices, host_scalars, kernels
from agclip._clipping import pipeline
from agclip._clipping.measure import widened
from agclip._clipping.plan import Inputs, StaticArgs
from agclip._clipping.record import reported, reported_floats
from agclip._numerics.ranges import Norm
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Namespace, Scalar, Tree
from agclip.rules import _checks, _kept, _memory, _paths
from agclip.rules._arithmetic import allowing, average, times
from agclip.rules._info import host_list, joined
from agclip.rules._kept import Kept
from agclip.rules._layout import COUNT, JOINED, SIZE, ByPath, Parts
from agclip.rules._rule import Options, State, Step, taken

FEW = 64
"""Up to so many leaves floats take less time than vectors do, which are 25 calls of a library."""


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
        like, held = self._held(leaves, state, paths)
        count, averages = held["count"], held["average"]
        numbers = self.relative, self.absolute, self.decay, self.warmup
        limits = _FromNorms(tuple(map(float, numbers)))
        plan = self._plan(leaves, 1.0)._replace(limits=limits)
        joined_at = held.get(JOINED, {})
        late = [*map(joined_at.get, paths)] if like else _memory.since(leaves, held)
        extra = count, late, [*map(averages.get, paths)]
        outcome = pipeline.run(
            leaves, plan, "bound", None, self.loss_scale, extra=extra, inplace=inplace
        )
        threshold, count, new = outcome.extra
        if like is None:
            state = _memory.advanced(leaves, held, "average", count, new)
        else:
            averages = {**averages, **dict(zip(paths, new, strict=True))}
            state = Kept(leaves.backend, like, {**held, "count": count, "average": averages})
        return taken(outcome, plan.nonfinite, state, inplace=inplace, threshold=threshold)

    def _held(
        self, leaves: Leaves, state: State, paths: Sequence[str]
    ) -> tuple[Mapping[str, Any] | None, dict[str, Any]]:
        """Return the state that a step starts from: as numbers, and arrays that they are like.

        Or None and the arrays, where they cannot be read for nothing.
        """
        free = leaves.access == "free" and self.loss_scale is None
        if type(state) is Kept:
            if free and state.leads_to(leaves) and state.numbers["average"].keys() >= {*paths}:
                return state.like, state.numbers
            state = state.arrays()
        held = _memory.joined(self, leaves, state, "average", lambda _: _memory.array(leaves, SIZE))
        here = {
            path: _memory.here(leaves, held["average"][path], f"state['average'][{path!r}]")
            for path in paths
        }
        held = {**held, "average": {**held["average"], **here}}
        numbers = _kept.read(leaves.backend, held) if free else None
        return (None, held) if numbers is None else (held, numbers)


class _FromNorms(NamedTuple):
    """The limit on each leaf's norm; `Inputs.extra` holds the count, late leaves and averages."""

    numbers: tuple[float, ...]

    def __call__(
        self, call: StaticArgs, norms: Sequence[Norm], inputs: Inputs
    ) -> tuple[list[Any], tuple[Array, Array, list[Array]]]:
        """Return the limits; and the threshold to report, the new count and averages."""
        backend, arrays = call.backend, inputs.arrays
        count, late, averages = inputs.extra
        if type(count) is int:
            return self._of_floats(call, norms, inputs)
        norm, values = reported(call, norms, inputs)
        old, n = joined(backend, averages, averages[0]), joined(backend, values, averages[0])
        whole = joined(backend, [norm], averages[0])[0, ...]
        bound, threshold, new = _advance(
            backend.xp, self.numbers, count, late, (old, n, whole), strict=call.plan.strict
        )
        every = range(len(arrays))
        there = [
            devices.to_device(backend, bound[i, ...], backend.device(arrays[i])) for i in every
        ]
        known = [_memory.known(backend, bound) for bound in there]
        limits = [widened(call, arrays, bound) for bound in known]
        return limits, (threshold, count + 1, [new[i, ...] for i in every])

    def _of_floats(
        self, call: StaticArgs, norms: Sequence[Norm], inputs: Inputs
    ) -> tuple[list[float], tuple[Scalar, int, list[float]]]:
        """Do the same where the state is numbers: of many leaves in the same vectors."""
        backend, first = call.backend, inputs.arrays[0]
        xp, device, strict = backend.xp, backend.device(first), call.plan.strict
        count, late, averages = inputs.extra
        norm, values = reported_floats(call, norms, inputs)
        if len(values) <= FEW:
            return self._one_by_one(call, first, (count, late, averages), values, norm)
        with backend.context():
            numbers = averages, values, [norm]
            old, n, whole = (kernels.number(xp, one, xp.float64, device) for one in numbers)
            steps = kernels.number(xp, count, xp.int32, device)
            since = [
                None if one is None else kernels.number(xp, one, xp.int32, device) for one in late
            ]
            vectors = old, n, whole[0, ...]
            bound, threshold, new = _advance(xp, self.numbers, steps, since, vectors, strict=strict)
            return host_list(bound), (threshold, count + 1, host_list(new))

    def _one_by_one(
        self, call: StaticArgs, first: Array, held: Any, values: list[float], norm: float
    ) -> tuple[list[float], tuple[Scalar, int, list[float]]]:
        """Do the same of few leaves, with floats."""
        m, backend, strict = host_scalars, call.backend, call.plan.strict
        absolute, warmup = self.numbers[1], self.numbers[3]
        count, late, averages = held
        by_all = _by_all(m, norm, absolute)
        bounds, new = [], []
        for since, old, n in zip(late, averages, values, strict=True):
            warming = (count if since is None else count - since) < warmup
            bound, after = _of_leaves(m, self.numbers, warming, by_all, old, n)
            bounds.append(bound)
            new.append(after)
        threshold: Scalar = absolute
        if not count < warmup:
            xp, device = backend.xp, backend.device(first)
            with backend.context():  # as a library adds up a vector
                threshold = _root_of_squares(xp, kernels.number(xp, bounds, xp.float64, device))
        if not strict:
            bounds = [allowing(m, n, bound) for n, bound in zip(values, bounds, strict=True)]
        return bounds, (threshold, count + 1, new)


def _advance(
    xp: Namespace,
    numbers: tuple[float, ...],
    count: Array,
    late: Sequence[Array | None],
    norms: tuple[Array, Array, Array],
    *,
    strict: bool,
) -> tuple[Array, Array, Array]:
    """Return the bounds, the threshold, and the new averages, from vectors of old ones and norms.

    The last of `norms` is the norm of all leaves.
    """
    absolute, warmup = numbers[1], int(numbers[3])
    old, n, whole = norms
    early = warming = count < warmup
    if any(one is not None for one in late):
        warming = xp.stack([count if one is None else count - one for one in late]) < warmup
    bound, new = _of_leaves(xp, numbers, warming, _by_all(xp, whole, absolute), old, n)
    most = xp.where(early, xp.full_like(whole, absolute), _root_of_squares(xp, bound))
    if not strict:
        bound = allowing(xp, n, bound)
    return bound, most, new


def _root_of_squares(xp: Namespace, bound: Array) -> Array:
    return xp.sqrt(xp.sum(bound * bound))


def _of_leaves(
    m: Namespace,
    numbers: tuple[float, ...],
    warming: Scalar,
    by_all: tuple[Scalar, Scalar],
    old: Scalar,
    n: Scalar,
) -> tuple[Scalar, Scalar]:
    """Return the bounds and the new averages, of vectors or one by one."""
    relative, _, decay, _ = numbers
    over, ratio = by_all
    usual = times(m, old, relative)
    unknown = usual <= 0
    scaled = m.where(over, n * ratio, m.full_like(n, math.inf))
    bound = m.where(warming | unknown, scaled, usual)
    left = m.minimum(n, bound)
    moved = m.where(warming, m.minimum(old, left), average(m, old, left, decay))
    enters = m.isfinite(n) & (left > 0)
    return bound, m.where(enters, m.where(unknown, left, moved), old)


def _by_all(m: Namespace, whole: Scalar, absolute: float) -> tuple[Scalar, Scalar]:
    """Return whether all leaves are to be clipped by their global norm, and by what ratio."""
    over = m.isfinite(whole) & (whole > absolute)
    return over, m.full_like(whole, absolute) / m.where(over, whole, m.full_like(whole, 1.0))
