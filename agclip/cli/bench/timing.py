"""Timings that can be divided by each other: two calls in turns, round after round."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import NamedTuple

Call = Callable[[], object]

FEWEST, MOST = 5, 200
BURSTS = 3
PAUSE = 6e-3
"""Seconds before a turn: OpenMP's threads keep a core busy for 4.5 ms after PyTorch's last loop."""
BURST = 1e-3
"""Seconds: shorter calls are repeated without a look at the clock."""


class Ratio(NamedTuple):
    """The time of one call, and what it is of the time of another."""

    seconds: float
    ratio: float
    low: float
    high: float
    rounds: int


def compare(ours: Call, theirs: Call, seconds: float) -> Ratio:
    """Time two calls in turns.

    A round times both, the next one in reverse order; the ratio is the median of the quotients of
    the rounds, between its quartiles.

    Args:
        ours: The call whose time is told.
        theirs: The call it is divided by.
        seconds: For how long; five rounds at least.
    """
    calls = (ours, theirs)
    bursts = [_burst(call) for call in calls]
    times: list[tuple[float, float]] = []
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        while len(times) < FEWEST or (len(times) < MOST and time.perf_counter() - begin < seconds):
            order = (0, 1) if len(times) % 2 else (1, 0)
            found = {place: _timed(calls[place], bursts[place]) for place in order}
            times.append((found[0], found[1]))
    finally:
        gc.enable()
    ratios = [one / other for one, other in times]
    low, middle, high = quantiles(ratios, n=4)
    return Ratio(median(one for one, _ in times), middle, low, high, len(times))


def _burst(call: Call) -> int:
    """Return how often to repeat a call between two looks at the clock."""
    call()  # compiles, loads and allocates
    return max(1, min(50, round(BURST / max(_timed(call, 1), 1e-7))))


def _timed(call: Call, times: int) -> float:
    """Return the seconds of a call in the fastest burst: what disturbs one only makes it slower."""
    time.sleep(PAUSE)
    bursts = []
    for _ in range(BURSTS):
        begin = time.perf_counter()
        for _ in range(times):
            call()
        bursts.append(time.perf_counter() - begin)
    return min(bursts) / times
