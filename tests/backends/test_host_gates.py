"""What a call may do in host memory, counted: writes, kernel calls, array calls, Python calls."""

import collections
import dataclasses
import sys

import array_api_compat.numpy
import numpy as np
import pytest

import agclip
import arrays
import hosts
from agclip._backends import kernels as kernels_
from agclip_backends._host import tables

pytest_plugins = ["host_fixtures"]

KERNELS = (
    "sum_squares",
    "abs_max",
    "power_sums",
    "exact_sum",
    "clip",
    "scale",
    "scale_",
    "scale_each",
)


@pytest.fixture
def counted(host, tmp_path):
    """How often each kernel of the library has been called."""
    calls = collections.Counter()
    own = agclip.get_backend(host.library)

    def counting(name):
        kernel = getattr(own, name)

        def call(*arguments):
            calls[name] += 1
            return kernel(*arguments)

        return call

    with arrays.registry(tmp_path):
        kernels = {name: counting(name) for name in KERNELS}
        agclip.register_backend(dataclasses.replace(own, **kernels))
        yield calls


CLIPS = {
    "global": lambda t, c: agclip.clip_by_global_norm(t, c)[0],
    "leaf": agclip.clip_by_norm,
    "rms": agclip.clip_by_rms,
    "average": agclip.clip_by_average_norm,
    "strict": lambda t, c: agclip.clip_by_global_norm(t, c, strict=True)[0],
    "largest": lambda t, c: agclip.clip_by_global_norm(t, c, ord=float("inf"))[0],
    "reproducible": lambda t, c: agclip.clip_by_global_norm(t, c, ord=1, reproducible=True)[0],
    "global in place": lambda t, c: agclip.clip_by_global_norm_(t, c)[0],
    "leaf in place": agclip.clip_by_norm_,
    "rms in place": agclip.clip_by_rms_,
    "average in place": agclip.clip_by_average_norm_,
}


@pytest.fixture(params=CLIPS, ids=lambda name: name.replace(" ", "-"))
def clip(request):
    return CLIPS[request.param]


@pytest.fixture(params=["float16", "float32", "float64"])
def dtype(request):
    return request.param


def test_within_the_bound_the_same_objects_are_returned_and_nothing_is_written(
    host, counted, clip, dtype
):
    tree = {"w": host.array(np.full((300, 70), 0.5), dtype), "b": [host.array([3.0, 4.0], dtype)]}
    with arrays.unchanged(tree):
        result = clip(tree, 1e6)
    assert result["w"] is tree["w"]
    assert result["b"][0] is tree["b"][0]
    assert counted["scale"] == counted["scale_"] == counted["clip"] == 0


@pytest.mark.parametrize("name", [name for name in CLIPS if "in place" not in name])
def test_within_the_bound_a_read_only_array_is_returned_itself(accelerate, name):
    leaf = np.ones(5)
    leaf.flags.writeable = False
    assert CLIPS[name]([leaf], 100.0)[0] is leaf


def test_within_the_bound_no_compiled_kernel_is_given_a_target(compiled_host, clip, monkeypatch):
    written = []
    monkeypatch.setattr(tables, "_write", lambda *_, **__: written.append(1))
    clip([compiled_host.array(np.ones(hosts.BLOCK * 2))], 1e6)
    assert written == []


LEAVES = (3, 300)


@pytest.mark.parametrize("count", LEAVES)
def test_a_global_clip_is_one_sum_and_one_multiplication(host, counted, count):
    tree = [host.array([3.0, 4.0]) for _ in range(count)]
    agclip.clip_by_global_norm(tree, 1.0)
    agclip.clip_by_global_norm_(tree, 1.0)
    assert counted == {"sum_squares": 2, "scale": 1, "scale_": 1}


@pytest.mark.parametrize("count", LEAVES)
def test_leaves_of_their_own_norms_are_one_sum_and_one_call_of_multiplications(
    host, counted, count
):
    tree = [host.array([3.0, 4.0]) for _ in range(count)]
    agclip.clip_by_norm(tree, 1.0)
    assert counted == {"sum_squares": 1, "scale_each": 1}


@pytest.mark.parametrize("count", LEAVES)
def test_entries_of_all_leaves_are_clipped_in_one_call(host, counted, count):
    agclip.clip_by_value([host.array([3.0, 4.0]) for _ in range(count)], -1.0, 1.0)
    assert counted == {"clip": 1}


@pytest.mark.parametrize("count", LEAVES)
def test_a_number_becomes_one_array_for_all_leaves_of_a_dtype(host, count, monkeypatch):
    made = []
    number = kernels_.number
    monkeypatch.setattr(kernels_, "number", lambda *a: made.append(1) or number(*a))
    tree = [host.array([3.0], dtype) for dtype in ("float32", "float64") for _ in range(count)]
    agclip.clip_by_value(tree, -1.0, 1.0)
    agclip.clip_by_value_(tree, -1.0, 1.0)
    assert len(made) == 2 * 2 * 2


def test_a_reproducible_norm_of_narrow_leaves_is_rarely_summed_twice(host, counted):
    for seed in range(20):
        leaf = host.copy(hosts.drawn("float32", 1000, seed=seed))
        agclip.clip_by_global_norm([leaf], 1.0, reproducible=True)
    assert counted == {"sum_squares": 20, "scale": 20}


COMPILED = {
    "global": (lambda t: agclip.clip_by_global_norm(t, 1.0), 2),
    "global in place": (lambda t: agclip.clip_by_global_norm_(t, 1.0), 2),
    "within": (lambda t: agclip.clip_by_global_norm_(t, 1e9), 1),
    "value": (lambda t: agclip.clip_by_value(t, -1.0, 1.0), 1),
    "norm of order 1": (lambda t: agclip.global_norm(t, 1), 1),
    "largest": (lambda t: agclip.clip_by_global_norm(t, 1.0, ord=float("inf")), 2),
}


@pytest.mark.parametrize("count", LEAVES)
@pytest.mark.parametrize("name", COMPILED, ids=lambda name: name.replace(" ", "-"))
def test_the_memory_is_passed_over_as_often_as_it_has_to_be(
    compiled_host, name, count, monkeypatch
):
    passes = []
    work = tables.Leaves.work
    monkeypatch.setattr(
        tables.Leaves, "work", lambda self, *a, **k: passes.append(1) or work(self, *a, **k)
    )
    function, wanted = COMPILED[name]
    function([compiled_host.array([3.0, 4.0]) for _ in range(count)])
    assert len(passes) == wanted


class Counting:
    """A namespace that counts the calls of its functions."""

    def __init__(self, xp):
        self.xp, self.names = xp, collections.Counter()

    def __getattr__(self, name):
        found = getattr(self.xp, name)
        if not callable(found) or isinstance(found, type):
            return found

        def call(*arguments, **options):
            self.names[name] += 1
            return found(*arguments, **options)

        return call


PORTABLE = {
    "global": (lambda t: agclip.clip_by_global_norm(t, 1.0), 4),
    "leaf": (lambda t: agclip.clip_by_norm(t, 1.0), 40),
    "value": (lambda t: agclip.clip_by_value(t, -1.0, 1.0), 6),
    "value in place": (lambda t: agclip.clip_by_value_(t, -1.0, 1.0), 6),
    "value, one bound": (lambda t: agclip.clip_by_value(t, None, 1.0), 3),
}


@pytest.mark.parametrize("name", PORTABLE, ids=lambda name: name.replace(" ", "-"))
def test_array_calls_of_the_default_kernels_grow_by_few_a_leaf(name, tmp_path):
    function, limit = PORTABLE[name]
    with arrays.registry(tmp_path):
        counts = []
        for count in (10, 30):
            xp = Counting(array_api_compat.numpy)
            agclip.register_backend(agclip.Backend(name="numpy", xp=xp))
            function([np.ones(3) for _ in range(count)])
            counts.append(xp.names.total())
    assert counts[0] < counts[1] <= counts[0] + 20 * limit


@pytest.mark.parametrize(("access", "wanted"), [("free", 50), ("graph", 2), ("sync", 2)])
def test_leaves_are_cut_in_pieces_only_where_arrays_are_worked_on_at_once(access, wanted, tmp_path):
    xp, leaf = Counting(array_api_compat.numpy), np.linspace(-3, 3, 100)
    with arrays.registry(tmp_path):
        backend = agclip.Backend(name="numpy", xp=xp, access=lambda _: access, block=4)
        agclip.register_backend(backend)
        agclip.clip_by_value_(leaf, -1.0, 1.0)
    assert np.abs(leaf).max() == 1
    assert xp.names["where"] == wanted


PYTHON = {
    "global": (lambda t: agclip.clip_by_global_norm(t, 1.0), {"off": 13, "numba": 2}),
    "global in place": (lambda t: agclip.clip_by_global_norm_(t, 1.0), {"off": 7, "numba": 0}),
    "within": (lambda t: agclip.clip_by_global_norm_(t, 1e9), {"off": 7, "numba": 0}),
    "leaf": (lambda t: agclip.clip_by_norm(t, 1.0), {"off": 110, "numba": 100}),
    "value": (lambda t: agclip.clip_by_value(t, -1.0, 1.0), {"off": 14, "numba": 2}),
    "value in place": (lambda t: agclip.clip_by_value_(t, -1.0, 1.0), {"off": 14, "numba": 0}),
}


@pytest.mark.parametrize("name", PYTHON, ids=lambda name: name.replace(" ", "-"))
def test_python_calls_grow_by_few_a_leaf(host, name):
    function, limits = PYTHON[name]
    few, many = (calls_of(function, host, count) for count in (20, 70))
    assert many - few <= 50 * limits[host.mode]


def calls_of(function, host, count):
    """Return how many functions of Python are called, steps of generators included."""
    tree = [host.array([3.0, 4.0]) for _ in range(count)]
    function(tree)
    calls = []
    before = sys.getprofile()
    sys.setprofile(lambda _, event, __: calls.append(event) if event == "call" else None)
    try:
        function(tree)
    finally:
        sys.setprofile(before)
    return len(calls)
