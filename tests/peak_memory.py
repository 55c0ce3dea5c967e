"""The most memory in use during a call."""

import itertools
import tracemalloc

import pytest

MIB = 1 << 20
SMALL_CHANGE = 1 << 12
"""The scalars of a call."""


def peak_of_numpy(function, *arguments):
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        function(*arguments)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def peak_of_torch(function, *arguments):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        function(*arguments)
    events = [e for e in profile.kineto_results.events() if e.name() == "[memory]"]
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    return max(itertools.accumulate(changes), default=0)
