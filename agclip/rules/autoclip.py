"""A bound at a percentile of the norms so far."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from agclip._backends import host_scalars
from agclip._backends.backend import Backend
from agclip._backends.kernels import cast, number
from agclip._numerics.axis_sums import add
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Namespace
from agclip.rules import _checks, _memory
from agclip.rules._arithmetic import times
from agclip.rules._kept import History, Kept
from agclip.rules._layout import COUNT, GROWING, SIZE, Parts
from agclip.rules._rule import State

FIRST = 16
"""How many norms a history without a window has room for at first; it is doubled when full."""


@dataclass(frozen=True, repr=False)
class AutoClip(_memory.OfGlobalNorm):
    """Clip the global norm at a percentile of the norms so far.

    ```
    H_t = the last `window` norms that are finite and not zero, n_t included
    c_t = the percentile of H_t, interpolated linearly
    out = g · c_t / n_t  if n_t > c_t  else  g
    ```

    Norms enter as they came in, before clipping, so the bound rises and falls with them. A norm of
    zero, a NaN and an infinity never enter. A norm is compared as it is remembered and reported, so
    the 100th percentile clips nothing; with `strict` it is compared as it is measured, since what
    comes out must not exceed c_t. In the record `threshold` is c_t and `scale` the coefficient.

    Without a window the history grows: its arrays are made anew whenever it is full, which takes a
    library whose values can be read for nothing (NumPy; PyTorch and JAX on the CPU, not compiled).

    Attributes:
        percentile: Which percentile of the norms is the bound: between 0 and 100, 100 included.
        window: How many norms are remembered; None for all.
        warmup: For how many steps norms are only collected.

    Example:
        >>> clipper = agclip.Clipper(agclip.AutoClip(percentile=50.0))
        >>> for norm in (1.0, 3.0, 100.0):
        ...     clipped, info = clipper(np.array([norm]))
        >>> clipped.tolist()
        [3.0]

    Source: P. Seetharaman, G. Wichern, B. Pardo, J. Le Roux, "AutoClip: Adaptive gradient clipping
    for source separation networks", 2020, arXiv:2007.14469.
    """

    percentile: float = 10.0
    window: int | None = None
    warmup: int = 0
    _remembered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        _checks.percentage("percentile", self.percentile)
        _checks.count("window", self.window, 1, none="None for all norms")
        _checks.count("warmup", self.warmup)

    def _fresh(self, leaves: Leaves) -> State:
        """Return counts at 0 and an empty history."""
        state, key = super()._fresh(leaves), "norms" if self.window else GROWING
        xp, zero = leaves.backend.xp, state[key]
        with leaves.backend.context():
            whole = xp.broadcast_to(zero, (self.window or FIRST,))
            return {**state, key: leaves.backend.at(zero, add, zero, whole)}

    def _layout(self) -> Parts:
        key = "norms" if self.window else GROWING
        return {"count": COUNT, "seen": COUNT, key: SIZE._replace(shape=(self.window,))}

    def _checked(self, leaves: Leaves, state: State) -> State:
        """Return the state that a step starts from, with room for one norm more."""
        state = super()._checked(leaves, state)
        if self.window is not None or type(state) is Kept:
            return state
        backend, norms = leaves.backend, state[GROWING]
        if leaves.access not in ("free", "graph"):
            msg = (
                "`window` must be a number of norms where values cannot be read for nothing: "
                "compiled, lazy, or on a device; got None. Give AutoClip a window, such as 1000."
            )
            raise ValueError(msg)
        if int(state["seen"]) < norms.shape[0]:
            return state
        with backend.context():
            return {**state, GROWING: backend.xp.concat([norms, backend.xp.zeros_like(norms)])}

    def _advance(self) -> tuple[_memory.Advance, tuple[float, ...]]:
        return _advance, (float(self.percentile) / 100.0, self.warmup)


def _advance(
    backend: Backend, xp: Namespace, numbers: tuple[float, ...], state: State, norm: Array
) -> tuple[Array, Array, dict[str, Any]]:
    if xp is host_scalars:
        return _on_host(numbers, state, norm)
    share, warmup = numbers
    key = "norms" if "norms" in state else GROWING
    norms, seen = state[key], state["seen"]
    size = norms.shape[0]
    device = backend.device(norms)
    places = xp.arange(size, dtype=xp.int32, **({} if device is None else {"device": device}))
    enters = xp.isfinite(norm) & (norm > 0)
    room = number(xp, size, xp.int32, device)
    norms = xp.where(xp.equal(places, xp.remainder(seen, room)) & enters, norm, norms)
    seen = seen + cast(xp, enters, xp.int32)
    # An element of zero is one that has not been filled yet: no norm of zero is remembered.
    held = norms > 0
    filled = xp.sum(cast(xp, held, xp.int32), dtype=xp.int32)
    ranked = xp.sort(xp.where(held, norms, xp.full_like(norms, math.inf)))
    threshold = _interpolated(xp, ranked, places, filled, share)
    known = (filled > 0) & (state["count"] >= int(warmup))
    threshold = xp.where(known, threshold, xp.full_like(threshold, math.inf))
    return threshold, threshold, {"count": state["count"] + 1, "seen": seen, key: norms}


def _interpolated(
    xp: Namespace, ranked: Array, places: Array, filled: Array, share: float
) -> Array:
    """Return the value at a share of the way through the first elements of a sorted array."""
    position = times(xp, cast(xp, filled - 1, ranked.dtype), share)
    below = xp.floor(position)
    low = cast(xp, below, xp.int32)
    high = xp.minimum(low + 1, filled - 1)

    def at(place: Array) -> Array:
        return xp.sum(xp.where(xp.equal(places, place), ranked, xp.zeros_like(ranked)))

    return at(low) + times(xp, at(high) - at(low), position - below)


def _on_host(
    numbers: tuple[float, ...], state: dict[str, Any], norm: float
) -> tuple[float, float, dict[str, Any]]:
    """Return the same of Python numbers: a norm is put in its place among those that are sorted."""
    share, warmup = numbers
    key = "norms" if "norms" in state else GROWING
    count, seen, (values, ranked) = state["count"], state["seen"], state[key]
    if key == GROWING and seen >= len(values):
        values = values + [0.0] * len(values)
    if math.isfinite(norm) and norm > 0:
        # A step may yet fail, and what it began with is begun with again.
        values, ranked = values.copy(), ranked.copy()
        place = seen % len(values)
        if values[place] > 0:
            del ranked[bisect.bisect_left(ranked, values[place])]
        values[place] = norm
        bisect.insort(ranked, norm)
        seen += 1
    threshold = math.inf
    if ranked and count >= warmup:
        position = (len(ranked) - 1) * share
        low = math.floor(position)
        least, most = ranked[low], ranked[min(low + 1, len(ranked) - 1)]
        threshold = least + (most - least) * (position - low)
    return threshold, threshold, {"count": count + 1, "seen": seen, key: History(values, ranked)}
