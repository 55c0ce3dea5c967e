"""Formats of eight bits: kept in them, computed in float32, in PyTorch as in NumPy."""

import math

import numpy as np
import pytest

import agclip
from tests import arrays

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes has NumPy's float8")

NAMES = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
FINITE = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2fnuz")
LARGEST = {"float8_e4m3fn": 448, "float8_e4m3fnuz": 240, "float8_e5m2fnuz": 57344}
INF = math.inf
FUNCTIONS = {
    "norm": lambda v: agclip.clip_by_norm(v, 1.0),
    "order 3": lambda v: agclip.clip_by_norm(v, 1.0, ord=3),
    "axes": lambda v: agclip.clip_by_norm(v, 1.0, axes=0),
    "strict": lambda v: agclip.clip_by_norm(v, 1.0, strict=True, reproducible=True),
    "zero": lambda v: agclip.clip_by_norm(v, 1.0, nonfinite="zero"),
    "skip": lambda v: agclip.clip_by_norm(v, 1.0, nonfinite="skip"),
    "axes, zero": lambda v: agclip.clip_by_norm(v, 1.0, axes=0, nonfinite="zero"),
    "loss scale": lambda v: agclip.clip_by_norm(v, 1.0, loss_scale=4.0),
    "average norm": lambda v: agclip.clip_by_average_norm(v, 0.5),
    "rms": lambda v: agclip.clip_by_rms(v, 0.5),
    "adaptive": lambda v: agclip.adaptive_grad_clip(v, v, 0.5, unit_axes="out_in"),
    "per example": lambda v: agclip.clip_per_example(v, 1.0)[0],
    "by global norm": lambda v: agclip.clip_by_global_norm([v], 1.0)[0][0],
    "value": lambda v: agclip.clip_by_value(v, -1, 3.5),
    "value, one bound": lambda v: agclip.clip_by_value(v, None, 3.5),
    "value, infinite": lambda v: agclip.clip_by_value(v, -INF, INF),
    "value, scaled": lambda v: agclip.clip_by_value(v, -1, 3.5, loss_scale=0.5),
    "in place": lambda v: agclip.clip_by_norm_(v, 1.0),
    "zero in place": lambda v: agclip.clip_by_norm_(v, 1.0, axes=0, nonfinite="zero"),
    "rms in place": lambda v: agclip.clip_by_rms_(v, 0.5),
    "value in place": lambda v: agclip.clip_by_value_(v, -1, 3.5),
}
RULES = {
    "ClipByGlobalNorm": agclip.ClipByGlobalNorm(1.0),
    "ClipByNorm": agclip.ClipByNorm(1.0),
    "ClipByAverageNorm": agclip.ClipByAverageNorm(0.5),
    "ClipByRMS": agclip.ClipByRMS(0.5),
    "ClipByValue": agclip.ClipByValue(-1.0, INF),
    "AdaptiveGradClip": agclip.AdaptiveGradClip(unit_axes="out_in"),
    "AutoClip": agclip.AutoClip(warmup=0),
    "ZClip": agclip.ZClip(warmup=1),
    "AdaGC": agclip.AdaGC(),
    "QuantileClip": agclip.QuantileClip(),
    "SpikeClip": agclip.SpikeClip(warmup=0),
}


def by_rule(rule):
    def step(v):
        state = rule.init([v])
        for _ in range(2):
            (out,), state, _ = rule.update([v], state, [v])
        return out

    return step


CALLS = FUNCTIONS | {name: by_rule(rule) for name, rule in RULES.items()}
ENTRIES = {
    "ordinary": [3.0, 4.0],
    "zeros": [0.0, 0.0],
    "with a NaN": [3.0, math.nan],
    "large": [200.0, -112.0],
    "small": [0.02, -0.03],
}


def of_numpy(values, name):
    return np.asarray(values, np.float32).astype(getattr(ml_dtypes, name))


def of_torch(values, name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return torch.tensor(values, dtype=torch.float32).to(getattr(torch, name))


def of_jax(values, name):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    return jax.numpy.asarray(of_numpy(values, name))


LIBRARIES = {"numpy": of_numpy, "torch": of_torch, "jax": of_jax}


@pytest.fixture(params=LIBRARIES)
def make(request):
    return LIBRARIES[request.param]


@pytest.fixture(params=CALLS, ids=lambda name: name.replace(", ", "-").replace(" ", "-"))
def call(request):
    return CALLS[request.param]


def listed(x):
    return x.tolist() if isinstance(x, np.ndarray) else x.float().tolist()


@pytest.mark.parametrize("values", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("name", NAMES)
def test_pytorch_clips_float8_to_the_bits_of_numpy(call, name, values):
    given = of_torch(values, name)
    got = call(given)
    assert got.dtype == given.dtype
    assert np.array_equal(listed(got), listed(call(of_numpy(values, name))), equal_nan=True)


@pytest.mark.parametrize("ord", [0.5, 1, 2, 3, INF])
@pytest.mark.parametrize("name", NAMES)
def test_norms_of_float8_are_those_of_their_entries(make, name, ord):
    entries = [3.0, -4.0, 0.5]
    wanted = max(map(abs, entries)) if ord == INF else sum(abs(x) ** ord for x in entries)
    wanted = wanted if ord == INF else wanted ** (1 / ord)
    assert float(agclip.global_norm([make(entries, name)], ord)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_clip_of_float8_rounds_the_bounds_to_it(make, name):
    clipped = agclip.clip_by_value(make([3.0, 4.0, -2.0, math.nan], name), -1, 3.5)
    assert np.asarray(list(map(float, clipped))) == pytest.approx(
        [3, 3.5, -1, math.nan], nan_ok=True
    )


@pytest.mark.parametrize("bounds", [(-INF, INF), (-INF, 3.5), (-2.0, INF), (-1e9, 1e9)])
@pytest.mark.parametrize("name", FINITE)
def test_an_infinite_bound_on_a_type_without_infinities_is_no_bound(make, name, bounds):
    entries = [-8.0, 3.0, 4.0, float(LARGEST[name])]
    wanted = np.clip(entries, *bounds).tolist()
    assert list(map(float, agclip.clip_by_value(make(entries, name), *bounds))) == wanted


@pytest.mark.parametrize("inside", ["float32", "own"])
@pytest.mark.parametrize("name", FINITE)
def test_an_infinite_bound_may_be_an_array(name, inside):
    entries = of_numpy([-8.0, 3.0, 4.0], name)
    low, high = np.float32([-INF, -INF, 0]), np.float32([INF, 2, INF])
    if inside == "own":
        low, high = (np.clip(x, -9, 9).astype(entries.dtype) for x in (low, high))
    assert listed(agclip.clip_by_value(entries, low, high)) == [-8.0, 2.0, 4.0]


@pytest.mark.parametrize("name", FINITE)
def test_what_a_loss_scale_takes_out_of_the_range_is_clipped_and_no_nan(make, name):
    x = make([float(LARGEST[name]), -1.0], name)
    assert list(map(float, agclip.clip_by_value(x, -1, 3.5, loss_scale=0.5))) == [3.5, -1.0]


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_that_raises_names_the_leaf_of_float8(make, name):
    tree = {"a": make([1.0, 2.0], name), "b": make([1.0, math.nan], name)}
    with pytest.raises(FloatingPointError, match=r"must be finite; got NaN at t\['b'\]"):
        agclip.clip_by_norm(tree, 1.0, nonfinite="error")


def test_an_infinity_of_float8_is_named(make):
    with pytest.raises(FloatingPointError, match="got an infinity at t"):
        agclip.clip_by_norm(make([1.0, INF], "float8_e5m2"), 1.0, nonfinite="error")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_float8_beside_other_types_is_clipped_in_place(library, name):
    """A failure after the first leaf was written would leave a tree that is neither."""
    wide = arrays.library(library).array([6.0, 8.0])
    narrow = LIBRARIES[library]([0.0, 24.0], name)
    agclip.clip_by_global_norm_([wide, narrow], 13.0)
    assert (wide.tolist(), listed(narrow)) == ([3.0, 4.0], [0.0, 12.0])
    agclip.clip_by_value_([wide, narrow], -INF, 3.5)
    assert (wide.tolist(), listed(narrow)) == ([3.0, 3.5], [0.0, 3.5])


def test_records_of_single_entries_are_computed_wider(make):
    _, _, info = agclip.ClipByValue(-1, 3.5).update([make([3.0, 4.0], "float8_e4m3fn")], ())
    assert (float(info.scale), float(info.norm), bool(info.clipped)) == (0.875, 5.0, True)


@pytest.mark.parametrize("name", ["float8_e8m0fnu", "float4_e2m1fn_x2"])
def test_formats_that_hold_no_gradient_are_refused(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not hasattr(torch, name):
        pytest.skip(f"this PyTorch has no {name}")
    x = torch.zeros(2, dtype=torch.uint8).view(getattr(torch, name))
    with pytest.raises(TypeError, match=f"must hold real or complex .*; got {name} at t"):
        agclip.clip_by_norm(x, 1.0)
