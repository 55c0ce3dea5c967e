"""Peak memory of a call beyond its arguments: two MiB, and the result if there is one."""

import itertools
import tracemalloc

import numpy as np
import pytest

import agclip
import hosts

pytest_plugins = ["host_fixtures"]

MIB = 1 << 20
ENTRIES = 1 << 22
"""Of all leaves together: a copy of a quarter of them would be too much."""
SMALL_CHANGE = 1 << 12
"""The scalars of a call."""


@pytest.fixture(params=["float32", "float16"])
def dtype(request):
    return request.param


@pytest.fixture(params=[1, 1000], ids=lambda n: f"{n}-leaves")
def tree(request, host, dtype):
    size = ENTRIES // request.param
    return [host.copy(np.full(size, 0.5, dtype)) for _ in range(request.param)]


@pytest.fixture
def output(dtype, tree):
    """What the new leaves take: their entries, and half a KiB for each as an object."""
    return ENTRIES * np.dtype(dtype).itemsize + 512 * len(tree)


@pytest.fixture
def peak(host):
    """A function that tells how much more memory than before was in use during a call."""
    if host.library == "numpy":
        yield lambda *call: peak_of_numpy(*warmed(host, *call))
        return
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # memory does not depend on it, and threads cost time
    yield lambda *call: peak_of_torch(*warmed(host, *call))
    torch.set_num_threads(before)


def warmed(host, function, tree):
    """Return a call whose imports have been made."""
    function([host.array([3.0, 4.0])])
    return function, tree


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


IN_PLACE = {
    "global": lambda t: agclip.clip_by_global_norm_(t, 1.0),
    "leaf": lambda t: agclip.clip_by_norm_(t, 1.0),
    "value": lambda t: agclip.clip_by_value_(t, -0.25, 0.25),
}
FUNCTIONAL = {
    "global": lambda t: agclip.clip_by_global_norm(t, 1.0),
    "leaf": lambda t: agclip.clip_by_norm(t, 1.0),
    "value": lambda t: agclip.clip_by_value(t, -0.25, 0.25),
}
IDLE = {
    "global": lambda t: agclip.clip_by_global_norm(t, 1e9),
    "reproducible": lambda t: agclip.clip_by_global_norm(t, 1e9, ord=1, reproducible=True),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_two_mib_are_enough(peak, tree, name):
    assert peak(IN_PLACE[name], tree) <= 2 * MIB + SMALL_CHANGE


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_a_new_tree_takes_two_mib_more_than_its_entries(peak, tree, output, name):
    assert peak(FUNCTIONAL[name], tree) <= output + 2 * MIB + SMALL_CHANGE


@pytest.mark.parametrize("name", IDLE)
def test_within_the_bound_two_mib_are_enough(peak, tree, name):
    assert peak(IDLE[name], tree) <= 2 * MIB + SMALL_CHANGE


@pytest.mark.parametrize("library", hosts.LIBRARIES)
def test_the_measure_sees_a_copy(library):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    peak = peak_of_numpy if library == "numpy" else peak_of_torch
    assert 4 * MIB <= peak(lambda: module.zeros(MIB, dtype=module.float32)) < 5 * MIB
