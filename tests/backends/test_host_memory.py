"""Peak memory of a call beyond its arguments: two MiB, and the result if there is one."""

import numpy as np
import pytest

import agclip
import hosts
from peak_memory import MIB, SMALL_CHANGE, peak_of_numpy, peak_of_torch

pytest_plugins = ["host_fixtures"]

ENTRIES = 1 << 22
"""Of all leaves together: a copy of a quarter of them would be too much."""


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
