"""Norms along trailing axes on a real GPU, for PyTorch and CuPy: as NumPy has them.

`backends/test_slices_on_devices.py` and `test_cupy_slices.py` show the same without one.
"""

import itertools
import math

import numpy as np
import pytest
from test_fused_gpu import Cupy, Torch, lib, same  # noqa: F401 - a fixture

import agclip

SHAPES = [(4, 3), (1, 5), (0, 2), (2, 0), (2, 3, 2, 5), (30, 9), (2, 16_500), (1, 40_003)]
DTYPES = ("float16", "bfloat16", "float32")
OPTIONS = [
    {"nonfinite": policy, "strict": strict, "loss_scale": loss}
    for policy, strict, loss in itertools.product(
        ("propagate", "zero", "skip"), (False, True), (None, 8.0, 0.37)
    )
]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy")


def leaves_of(dtype, shapes=SHAPES, bad=None):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    rng = np.random.default_rng(0)
    leaves = [rng.standard_normal(s).astype(dtype) for s in shapes]
    if bad is not None:
        leaves[0][1, 2] = bad
    return leaves


def params(leaves):
    return [(np.arange(x.size) % 7).reshape(x.shape).astype(x.dtype) for x in leaves]


def axes(leaves, _, twin, **options):
    return getattr(agclip, "clip_by_norm" + twin)(leaves, 0.5, axes=-1, **options)


def units(leaves, weights, twin, **options):
    clip = getattr(agclip, "adaptive_grad_clip" + twin)
    return clip(leaves, weights, 0.1, unit_axes="out_in", **options)


@pytest.mark.parametrize("twin", ["", "_"], ids=["new", "in-place"])
@pytest.mark.parametrize("bad", [None, math.nan])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", [axes, units])
def test_slices_have_the_bits_of_numpys(lib, call, dtype, bad, twin):  # noqa: F811 - the fixture
    for options in OPTIONS:
        leaves = leaves_of(dtype, bad=bad)
        weights = params(leaves)
        wanted = call(leaves, weights, "", **options)
        given = [lib.there(x) for x in leaves]
        there = [lib.there(x) for x in weights]
        lib.launched.clear()
        found = call(given, there, twin, **options)
        multiplied = options["nonfinite"] in (("propagate", "skip") if twin else ("propagate",))
        assert len(lib.launched) == 1 + (call is units) + multiplied
        for x, y in zip(found, wanted, strict=True):
            same(lib.here(x, y.dtype), y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_of_examples_are_numpys(lib, dtype):  # noqa: F811 - the fixture
    leaves = leaves_of(dtype, [(40, 3), (40,), (40, 2, 500), (40, 0)])
    wanted, number = agclip.clip_per_example(leaves, 0.7)
    given = [lib.there(x) for x in leaves]
    lib.launched.clear()
    found, count = agclip.clip_per_example(given, 0.7)
    assert len(lib.launched) == 1
    assert int(count) == int(number) > 0
    for x, y in zip(found, wanted, strict=True):
        here = lib.here(x, y.dtype).astype(np.float64)
        np.testing.assert_allclose(here, y.astype(np.float64), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("count", [1, 20, 1000])
def test_the_number_of_launches_is_that_of_one_leaf(lib, count):  # noqa: F811 - the fixture
    leaves = [lib.there(np.ones((3, 5), np.float32)) for _ in range(count)]
    for call, launches in ((axes, 2), (units, 3)):
        lib.launched.clear()
        call(leaves, leaves, "_")
        assert len(lib.launched) == launches


def test_a_rule_reports_its_bound(lib):  # noqa: F811 - the fixture
    rule, leaves = agclip.ClipByGlobalNorm(0.3), [lib.there(np.ones(7, np.float32))]
    for _ in range(2):
        *_, info = rule.update_(leaves, rule.init(leaves))
        assert str(info.threshold.dtype).endswith("float64")
        assert float(info.threshold) == 0.3


def test_slices_go_into_a_graph_that_needs_no_call_before_it():
    made = Torch()
    torch = made.torch
    leaves = [torch.full((3, n), 2.0, device="cuda") for n in (5, 20_000, 1)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        agclip.clip_by_norm_(leaves, 0.5, axes=-1)
    for value in (3.0, 1e-3, 5.0):
        wanted = [np.full(tuple(x.shape), value, np.float32) for x in leaves]
        for x in leaves:
            x.fill_(value)
        graph.replay()
        for x, y in zip(leaves, agclip.clip_by_norm(wanted, 0.5, axes=-1), strict=True):
            same(made.here(x, y.dtype), y)


def test_slices_of_cupys_go_into_a_graph():
    made = Cupy()
    cupy = made.cupy
    leaves = [cupy.full((3, n), 2.0, dtype="float32") for n in (5, 20_000, 1)]
    agclip.clip_by_norm_(leaves, 0.5, axes=-1)  # compiles, and takes memory of the pool
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        agclip.clip_by_norm_(leaves, 0.5, axes=-1)
        stream.synchronize()
        stream.begin_capture()
        agclip.clip_by_norm_(leaves, 0.5, axes=-1)
        graph = stream.end_capture()
        for value in (3.0, 1e-3, 5.0):
            wanted = [np.full(x.shape, value, np.float32) for x in leaves]
            for x in leaves:
                x.fill(value)
            graph.launch(stream)
            stream.synchronize()
            for x, y in zip(leaves, agclip.clip_by_norm(wanted, 0.5, axes=-1), strict=True):
                same(made.here(x, y.dtype), y)
