"""Timings that can be divided by each other: all contenders in turns, round after round.

pytest-benchmark measures one function to its end before it begins the next, so a machine that slows
down in between favours one of them. Here a round gives each contender one turn, the next round the
same in reverse order, and a ratio is the median over rounds of quotients within a round.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

Call = Callable[[], object]
Around = Callable[[str], AbstractContextManager[Any]]
Times = dict[str, list[float]]

BURST = 5e-4
"""Seconds: shorter calls are repeated without a look at the clock."""
TURN = 2e-3
"""Seconds: there are as many bursts in a turn, but from two to five."""
LONG = 0.1
"""Seconds: a longer call has one burst a turn."""
PAUSE = 6e-3
"""Seconds before a turn: OpenMP's threads keep a core busy for 4.5 ms after PyTorch's last loop."""
SECONDS = 1.5
"""Seconds for all rounds, within the limits below."""
FEWEST, MOST = 5, 41


class Ratio(NamedTuple):
    """The median of quotients of times, and the quartiles around it."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Return half the distance of the quartiles, as a part of the median."""
        return (self.high - self.low) / (2 * self.median)


def alternate(calls: Mapping[str, Call], around: Around) -> Times:
    """Time each call once a round.

    Args:
        calls: The calls by name.
        around: `around(name)` → what a turn of that call runs within.

    Returns:
        For each name the seconds of a call in every round.
    """
    turns = {}
    for name, call in calls.items():
        with around(name):
            turns[name] = _plan(call)
    times: Times = {name: [] for name in calls}
    order = list(calls)
    gc.collect()
    gc.disable()
    try:
        begin, rounds = time.perf_counter(), 0
        while rounds < FEWEST or (rounds < MOST and time.perf_counter() - begin < SECONDS):
            for name in order:
                with around(name):
                    times[name].append(_turn(calls[name], *turns[name]))
            order.reverse()
            rounds += 1
    finally:
        gc.enable()
    return times


def _plan(call: Call) -> tuple[int, int]:
    """Return the number of bursts in a turn, and of calls in a burst."""
    call()  # compiles, loads and allocates
    begin = time.perf_counter()
    call()
    seconds = time.perf_counter() - begin
    calls = max(1, round(BURST / seconds))
    return min(5, max(2 if seconds < LONG else 1, round(TURN / (calls * seconds)))), calls


def _turn(call: Call, bursts: int, calls: int) -> float:
    """Return the seconds of a call in the fastest burst: what disturbs one only makes it slower."""
    time.sleep(PAUSE)
    fastest = math.inf
    for _ in range(bursts):
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        fastest = min(fastest, time.perf_counter() - begin)
    return fastest / calls


def ratio(times: Times, name: str, other: str) -> Ratio:
    """Return the time of one contender as a multiple of another's."""
    quotients = [a / b for a, b in zip(times[name], times[other], strict=True)]
    low, median, high = statistics.quantiles(quotients, n=4, method="inclusive")
    return Ratio(median, low, high)
