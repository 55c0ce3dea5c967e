"""Rules with memory: the thresholds of their papers, on every library, whatever a run brings."""

import importlib
import json
import math

import numpy as np
import pytest

import agclip
import arrays
from oracle import rules as reference_rules
from thinned import thinned, with_libraries

# array_api_strict and Dask compute with NumPy, which warns of what the rules look for.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

CALM = [0.5, 0.75, 1.0, 0.625, 0.875, 1.125, 0.5625, 0.8125]
WILD = [*CALM, math.nan, 40.0, math.inf, 0.6875, 1.25, 30.0, 0.9375, 0.0, 2.0, 0.125, *CALM]
SHORT = [0.5, 0.75, math.nan, 1.0, math.inf, 0.625, 0.875, 40.0, 0.6875, 30.0]
"""For Dask, whose graph of a state holds all steps before."""

RULES = {
    "autoclip": (agclip.AutoClip(window=5), reference_rules.autoclip, {"window": 5}),
    "autoclip-warm": (
        agclip.AutoClip(40.0, 7, warmup=3),
        reference_rules.autoclip,
        {"percentile": 40.0, "window": 7, "warmup": 3},
    ),
    "zclip": (
        agclip.ZClip(warmup=6, max_norm=None),
        reference_rules.zclip,
        {"warmup": 6, "max_norm": None},
    ),
    "zclip-mean": (
        agclip.ZClip(2.0, 0.5, 4, 1.5, "mean"),
        reference_rules.zclip,
        {"z_threshold": 2.0, "alpha": 0.5, "warmup": 4, "max_norm": 1.5, "target": "mean"},
    ),
    "quantile": (
        agclip.QuantileClip(0.5, 0.75, 0.25),
        reference_rules.quantile,
        {"initial": 0.5, "quantile": 0.75, "rate": 0.25},
    ),
}
OFTEN = ("autoclip-warm", "zclip")
"""The rules with which `make test` has JAX compile a program for each kind of bad norm."""


@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=RULES)
def case(request):
    return RULES[request.param]


def gradients(lib, norm):
    """Two leaves, the first of which has all the norm."""
    return {"w": lib.array([norm, 0.0]), "b": lib.array([0.0])}


def run(clipper, lib, norms):
    return [clipper(gradients(lib, norm))[1].to_host() for norm in norms]


def thresholds(infos):
    return [info.threshold for info in infos]


def test_the_thresholds_are_those_of_the_paper(case):
    rule, oracle, arguments = case
    got = thresholds(run(agclip.Clipper(rule), arrays.library("numpy"), WILD))
    assert got == pytest.approx(oracle(WILD, **arguments), rel=1e-12)


def test_every_library_has_the_same_thresholds_to_the_bit(lib, case):
    rule, _, _ = case
    wanted = thresholds(run(agclip.Clipper(rule), arrays.library("numpy"), SHORT))
    assert thresholds(run(agclip.Clipper(rule), lib, SHORT)) == wanted


def test_a_run_that_moves_goes_on_as_one_that_stays(lib, case):
    rule, _, _ = case
    numpy = arrays.library("numpy")
    stays, leaves, arrives = (agclip.Clipper(rule) for _ in range(3))
    wanted = thresholds(run(stays, numpy, [*WILD, *SHORT[:4]]))[-4:]
    run(leaves, numpy, WILD)
    arrives.load_state_dict(json.loads(json.dumps(leaves.state_dict())))
    assert thresholds(run(arrives, lib, SHORT[:4])) == wanted


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@with_libraries("case", RULES, OFTEN)
def test_a_norm_that_is_not_finite_enters_no_statistic(lib, case, bad):
    rule, _, _ = case
    clipper = agclip.Clipper(rule)
    run(clipper, lib, CALM[:2])
    before = clipper.state_dict()["state"]
    (info,) = run(clipper, lib, [bad])
    after = clipper.state_dict()["state"]
    assert info.nonfinite
    assert info.skip
    counted = {"count": before["count"] + 1} if "count" in before else {}
    assert after == {**before, **counted}


@pytest.mark.parametrize("name", ["autoclip", "autoclip-warm", "zclip", "quantile"])
def test_thresholds_rise_and_fall(name):
    clipper = agclip.Clipper(RULES[name][0])
    numpy = arrays.library("numpy")
    ramp = [0.5 + 0.1 * (i % 3) for i in range(40)]
    start = run(clipper, numpy, ramp)[-1].threshold
    high = run(clipper, numpy, [0.7 * 1.02**i + 0.05 * (i % 2) for i in range(60)])[-1].threshold
    low = run(clipper, numpy, [0.05 + 0.01 * (i % 2) for i in range(200)])[-1].threshold
    assert start < high
    assert low < start


def test_the_warm_up_counts_steps_not_leaves(lib):
    clipper = agclip.Clipper(agclip.AutoClip(100.0, window=4, warmup=3))
    many = {str(i): lib.array([1.0]) for i in range(5)}
    infos = [clipper(many)[1].to_host() for _ in range(4)]
    assert [math.isinf(info.threshold) for info in infos] == [True, True, True, False]


def test_a_warm_up_of_nothing_but_nan_goes_on_until_there_is_a_norm():
    clipper = agclip.Clipper(agclip.ZClip(warmup=2, max_norm=None))
    numpy = arrays.library("numpy")
    infos = run(clipper, numpy, [math.nan, math.nan, math.nan, 1.0, 1.0])
    assert [math.isinf(info.threshold) for info in infos] == [True] * 4 + [False]


def test_a_history_without_a_window_grows():
    norms = [1.0 + i / 64 for i in range(50)]
    clipper = agclip.Clipper(agclip.AutoClip(50.0))
    got = thresholds(run(clipper, arrays.library("numpy"), norms))
    assert got == pytest.approx(reference_rules.autoclip(norms, 50.0), rel=1e-12)
    again = agclip.Clipper(agclip.AutoClip(50.0))
    again.load_state_dict(clipper.state_dict())
    more = thresholds(run(again, arrays.library("numpy"), [3.0]))
    assert more == pytest.approx(reference_rules.autoclip([*norms, 3.0], 50.0)[-1:], rel=1e-12)


@pytest.mark.parametrize("name", ["dask", "array_api_strict"])
def test_a_history_without_a_window_needs_values(name):
    lib = arrays.library(name)
    clipper = agclip.Clipper(agclip.AutoClip())
    with pytest.raises(
        ValueError, match=r"^`window` must be a number of norms where values cannot"
    ):
        clipper(gradients(lib, 1.0))


def test_the_gradients_are_clipped_to_the_threshold(lib, case):
    rule, _, _ = case
    clipper = agclip.Clipper(rule)
    run(clipper, arrays.library("numpy"), CALM)
    state = clipper.state_dict()
    clipper = agclip.Clipper(rule)
    clipper.load_state_dict(state)
    clipped, info = clipper(gradients(lib, 64.0))
    host = info.to_host()
    assert host.clipped
    assert lib.entries(clipped["w"])[0] == pytest.approx(64.0 * host.scale, rel=1e-6)
    assert lib.entries(clipped["w"])[0] < 64.0


# AdaGC: a threshold a leaf.

PAIRS = [(0.5 + (i % 4) / 8, 2.0 - (i % 3) / 4) for i in range(12)]
ODD = [*PAIRS, (math.nan, 1.0), (40.0, 0.0), (0.5, math.inf), *PAIRS[:5], (0.25, 60.0), *PAIRS]
ADAGC = {"relative": 1.5, "absolute": 1.25, "decay": 0.75, "warmup": 4}


def pair(lib, norms):
    return {"a": lib.array([norms[0]]), "b": [lib.array([0.0, norms[1]])]}


def test_adagc_averages_the_norm_of_each_leaf():
    lib = arrays.library("numpy")
    clipper = agclip.Clipper(agclip.AdaGC(**ADAGC))
    trace = []
    for norms in ODD:
        clipper(pair(lib, norms))
        average = clipper.state_dict()["state"]["average"]
        trace.append([average["a"], average["b.0"]])
    # The norm of all leaves is one of float32, which the oracle does not round.
    wanted = reference_rules.adagc(ODD, **ADAGC)
    assert np.allclose(trace, wanted, rtol=1e-6, atol=0)


def test_adagc_goes_on_elsewhere_to_the_bit(lib):
    numpy = arrays.library("numpy")
    stays, arrives = agclip.Clipper(agclip.AdaGC(**ADAGC)), agclip.Clipper(agclip.AdaGC(**ADAGC))
    for norms in ODD[:-4]:
        stays(pair(numpy, norms))
    arrives.load_state_dict(stays.state_dict())
    for norms in ODD[-4:]:
        stays(pair(numpy, norms))
        arrives(dict(reversed(pair(lib, norms).items())))
    assert arrives.state_dict() == stays.state_dict()


def test_adagc_clips_each_leaf_by_its_own_average(lib):
    clipper = agclip.Clipper(agclip.AdaGC(warmup=1, absolute=100.0))
    clipper(pair(lib, (1.0, 2.0)))
    clipped, info = clipper(pair(lib, (8.0, 2.0)))
    assert lib.entries(clipped["a"]) == pytest.approx([1.05])
    assert lib.entries(clipped["b"][0]).tolist() == [0.0, 2.0]
    assert info.to_host().threshold == pytest.approx(math.hypot(1.05, 2.1))


def test_adagc_lets_a_leaf_move_that_had_no_gradient(lib):
    clipper = agclip.Clipper(agclip.AdaGC(warmup=1, absolute=1.0))
    for _ in range(3):
        clipper(pair(lib, (1.0, 0.0)))
    clipped, _ = clipper(pair(lib, (0.0, 0.5)))
    assert lib.entries(clipped["b"][0]).tolist() == [0.0, 0.5]


# SpikeClip: a threshold an entry.


def test_spikes_are_cut_and_second_moments_follow(lib):
    entries = [0.5, -0.25, 0.0, 1.0, 8.0, math.nan, -64.0, math.inf, 0.5, 0.25]
    wanted, moments = reference_rules.spike(entries, 4.0, 0.75, 2)
    clipper = agclip.Clipper(agclip.SpikeClip(4.0, 0.75, 2))
    got = [float(lib.entries(clipper(lib.array([entry]))[0])[0]) for entry in entries]
    assert got == pytest.approx(wanted, rel=1e-6, nan_ok=True)
    assert clipper.state_dict()["state"]["second_moment"][""] == pytest.approx(
        [moments[-1]], rel=1e-6
    )


def test_an_entry_without_a_second_moment_is_not_frozen(lib):
    clipper = agclip.Clipper(agclip.SpikeClip(warmup=0))
    clipper(lib.array([0.0, 1.0]))
    clipped, info = clipper(lib.array([3.0, 1.0]))
    assert lib.entries(clipped).tolist() == [3.0, 1.0]
    assert not info.to_host().clipped


def test_spikes_of_complex_entries_keep_their_direction():
    clipper = agclip.Clipper(agclip.SpikeClip(1.0, 0.5, 1))
    clipper(np.asarray([1.0 + 0.0j]))
    clipped, _ = clipper(np.asarray([30.0 + 40.0j]))
    assert clipped == pytest.approx(np.asarray([0.6 + 0.8j]) * math.sqrt(0.5))


# Compiled.

COMPILED = [
    agclip.AutoClip(window=4),
    agclip.ZClip(warmup=2),
    agclip.AdaGC(warmup=2),
    agclip.SpikeClip(warmup=1),
    agclip.QuantileClip(),
]


def is_quick(rule):
    """Tell whether `make test` compiles a rule: one of global norms, and one of leaves."""
    return isinstance(rule, (agclip.AutoClip, agclip.ZClip, agclip.SpikeClip))


@pytest.fixture(params=thinned(COMPILED, is_quick, ids=lambda rule: type(rule).__name__))
def rule(request):
    return request.param


def test_one_jit_trace_serves_all_steps(rule):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    lib = arrays.library("jax")
    traces = []

    @jax.jit
    def step(grads, state):
        traces.append(1)
        return rule.update(grads, state)

    state = rule.init(gradients(lib, 1.0))
    eager = agclip.Clipper(rule)
    for norm in CALM:
        clipped, state, info = step(gradients(lib, norm), state)
        wanted, other = eager(gradients(lib, norm))
    assert len(traces) == 1
    assert info.to_host() == other.to_host()
    assert lib.entries(clipped["w"]).tolist() == lib.entries(wanted["w"]).tolist()


def test_torch_compiles_a_step_whole(rule):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    lib = arrays.library("torch")
    torch._dynamo.reset()
    step = torch.compile(rule.update, backend="eager", fullgraph=True)
    state = rule.init(gradients(lib, 1.0))
    eager = agclip.Clipper(rule)
    for norm in CALM[:4]:
        _, state, info = step(gradients(lib, norm), state)
        _, other = eager(gradients(lib, norm))
    assert info.to_host() == other.to_host()


def test_the_state_keeps_no_graph_alive():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rule = agclip.ZClip(warmup=1)
    grads = torch.ones(3, requires_grad=True)
    _, state, info = rule.update(grads, rule.init(grads))
    assert info.norm.requires_grad
    info.to_host()
    assert not any(value.requires_grad for value in state.values())


def test_a_state_is_the_carry_of_a_scan():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    numpy = importlib.import_module("jax.numpy")
    rule = agclip.ZClip(warmup=2)

    def body(state, norm):
        _, state, info = rule.update({"w": norm[None]}, state)
        return state, info.threshold

    state = rule.init({"w": numpy.ones(1)})
    _, got = jax.lax.scan(body, state, numpy.asarray(CALM))
    assert got.tolist() == pytest.approx(reference_rules.zclip(CALM, warmup=2), rel=1e-12)


def test_a_norm_whose_square_overflows_does_not_end_the_statistics():
    clipper = agclip.Clipper(agclip.ZClip(warmup=3, max_norm=None))
    clipper(np.asarray([1e200]))
    clipper(np.asarray([2e200]))
    infos = [clipper(np.asarray([x]))[1].to_host() for x in (1.0, 1.5, 1.25)]
    assert all(info.threshold > 0 for info in infos)
    assert math.isfinite(clipper.state_dict()["state"]["variance"])
