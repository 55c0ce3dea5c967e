"""Rules without memory: what the functions return, with a record of what has been done."""

import dataclasses
import math

import numpy as np
import pytest

import agclip
import arrays
from thinned import thinned, with_libraries

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

ENTRIES = {"w": [[3.0, 0.5], [0.0, -4.0]], "b": [0.25, -0.5]}
OF_ALL = math.sqrt(sum(x * x for x in [3.0, 0.5, -4.0, 0.25, -0.5]))
OF_W = math.sqrt(9.0 + 0.25 + 16.0)
OF_B = math.sqrt(0.0625 + 0.25)

CASES = {
    "value": (
        agclip.ClipByValue(-1.0, 0.5),
        lambda t: agclip.clip_by_value(t, -1.0, 0.5),
        (0.5 / 3.0, 1.0),
    ),
    "norm": (
        agclip.ClipByNorm(1.0),
        lambda t: agclip.clip_by_norm(t, 1.0),
        (1.0 / OF_W, 1.0),
    ),
    "norm-axes": (
        agclip.ClipByNorm(1.0, axes=-1),
        lambda t: agclip.clip_by_norm(t, 1.0, -1),
        (0.25, 1.0),
    ),
    "norm-ord": (
        agclip.ClipByNorm(1.0, ord=math.inf),
        lambda t: agclip.clip_by_norm(t, 1.0, ord=math.inf),
        (0.25, 1.0),
    ),
    "average_norm": (
        agclip.ClipByAverageNorm(0.25),
        lambda t: agclip.clip_by_average_norm(t, 0.25),
        (1.0 / OF_W, 0.25),
    ),
    "rms": (
        agclip.ClipByRMS(0.5),
        lambda t: agclip.clip_by_rms(t, 0.5),
        (1.0 / OF_W, 0.5),
    ),
    "global_norm": (
        agclip.ClipByGlobalNorm(1.0),
        lambda t: agclip.clip_by_global_norm(t, 1.0)[0],
        (1.0 / OF_ALL, 1.0),
    ),
    "adaptive": (
        agclip.AdaptiveGradClip(0.5, unit_axes="out_in"),
        lambda t: agclip.adaptive_grad_clip(t, t, 0.5, unit_axes="out_in"),
        (0.5, 0.5),
    ),
}
COMPILED = ("value", "norm-axes", "global_norm", "adaptive")
"""What `make test` has compiled: one of those that differ in a weight or an order alone."""


@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def tree(lib):
    return {key: lib.array(values) for key, values in ENTRIES.items()}


def entries(lib, result):
    return {key: lib.entries(leaf).tolist() for key, leaf in result.items()}


@with_libraries("case", CASES, COMPILED)
def test_a_rule_returns_what_its_function_does(lib, case):
    rule, function, _ = case
    clipped, state, _ = rule.update(tree(lib), rule.init(tree(lib)), tree(lib))
    assert entries(lib, clipped) == entries(lib, function(tree(lib)))
    assert state == ()


@with_libraries("case", CASES, COMPILED)
def test_the_record_says_what_has_been_done(lib, case):
    rule, _, (scale, threshold) = case
    _, _, info = rule.update(tree(lib), (), tree(lib))
    assert all(value.shape == () for value in (*info[:5], info.skip, *info.leaf_norms.values()))
    host = info.to_host()
    largest = getattr(rule, "ord", 2) == math.inf
    assert host.norm == pytest.approx(4.0 if largest else OF_ALL, rel=1e-7)
    assert host.leaf_norms == pytest.approx(
        {"w": 4.0, "b": 0.5} if largest else {"w": OF_W, "b": OF_B}, rel=1e-7
    )
    assert host.scale == pytest.approx(scale, rel=1e-6)
    assert host.threshold == threshold
    assert (host.clipped, host.nonfinite, host.skip) == (True, False, False)
    assert all(type(x) is float for x in (*host[:3], *host.leaf_norms.values()))


def test_within_the_bound_the_record_says_so(lib):
    _, _, info = agclip.ClipByGlobalNorm(100.0).update(tree(lib), ())
    host = info.to_host()
    assert (host.scale, host.clipped, host.threshold) == (1.0, False, 100.0)


def test_without_a_bound_the_threshold_is_infinite(lib):
    clipped, _, info = agclip.ClipByNorm(None).update(tree(lib), ())
    assert entries(lib, clipped) == ENTRIES
    assert info.to_host().threshold == math.inf


@pytest.mark.parametrize(
    ("policy", "scale", "skip"),
    [("propagate", math.nan, True), ("skip", 1.0, True), ("zero", 0.0, False)],
)
def test_the_record_of_gradients_that_are_not_finite(lib, policy, scale, skip):
    grads = {"a": lib.array([1.0, math.nan]), "b": lib.array([0.5])}
    _, _, info = agclip.ClipByGlobalNorm(10.0, nonfinite=policy).update(grads, ())
    host = info.to_host()
    assert host.scale == pytest.approx(scale, nan_ok=True)
    assert (host.clipped, host.nonfinite, host.skip) == (False, True, skip)
    assert host.leaf_norms == pytest.approx({"a": math.nan, "b": 0.5}, nan_ok=True)


def test_an_infinity_is_clipped_by_value_and_nan_is_not(lib):
    rule = agclip.ClipByValue(-1.0, 1.0)
    _, _, info = rule.update(lib.array([math.inf, 0.5]), ())
    assert (info.to_host().nonfinite, info.to_host().skip) == (True, False)
    _, _, info = rule.update(lib.array([math.nan, 0.5]), ())
    assert (info.to_host().nonfinite, info.to_host().skip) == (True, True)


def test_the_policy_error_raises(lib):
    grads = {"a": lib.array([1.0]), "b": lib.array([math.inf])}
    rules = [agclip.ClipByGlobalNorm(1.0, nonfinite="error"), agclip.ZClip(nonfinite="error")]
    rules.append(agclip.SpikeClip(nonfinite="error"))
    for rule in rules:
        state = rule.init(grads)
        with pytest.raises(FloatingPointError, match=r"an infinity at grads\['b'\]"):
            rule.update(grads, state)


@with_libraries("case", CASES, COMPILED)
def test_a_loss_scale_is_taken_out(lib, case):
    rule, _, _ = case
    scaled = {key: lib.array(np.asarray(values) * 8.0) for key, values in ENTRIES.items()}
    wanted, _, plain = rule.update(tree(lib), (), tree(lib))
    with_scale = dataclasses.replace(rule, loss_scale=8.0)
    got, _, info = with_scale.update(scaled, (), tree(lib))
    for key in ENTRIES:
        assert lib.entries(got[key]) == pytest.approx(lib.entries(wanted[key]), rel=1e-6)
    assert info.to_host().norm == plain.to_host().norm
    assert info.to_host().scale == pytest.approx(plain.to_host().scale, rel=1e-6)


def test_leaf_norms_outside_of_the_range_of_squares(lib):
    grads = {"tiny": lib.array([3e-200, 4e-200], "float64"), "one": lib.array([1.0], "float64")}
    _, _, info = agclip.ClipByGlobalNorm(0.5).update(grads, ())
    assert info.to_host().leaf_norms == pytest.approx({"tiny": 5e-200, "one": 1.0}, rel=1e-12)


def test_leaves_without_entries_have_norm_zero(lib):
    grads = {"none": lib.array(np.zeros((0, 2))), "one": lib.array([[2.0]])}
    for rule in (agclip.ClipByNorm(1.0, axes=-1), agclip.ClipByValue(-1.0, 1.0)):
        _, _, info = rule.update(grads, ())
        assert info.to_host().leaf_norms == {"none": 0.0, "one": 2.0}
        assert info.to_host().scale == 0.5


def test_an_empty_tree_warns_and_is_returned(case):
    rule, _, _ = case
    with pytest.warns(UserWarning, match="`grads` holds no array: nothing is clipped"):
        clipped, _, info = rule.update({"a": None}, (), {"a": None})
    assert clipped == {"a": None}
    assert info.to_host()[:2] == (0.0, 1.0)


@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_in_place_the_leaves_take_the_values(name, case):
    lib = arrays.library(name)
    rule, function, _ = case
    grads = tree(lib)
    held = dict(grads)
    clipped, _, info = rule.update_(grads, (), tree(lib))
    assert clipped is grads
    assert all(grads[key] is held[key] for key in grads)
    assert entries(lib, grads) == entries(lib, function(tree(lib)))
    _, _, wanted = rule.update(tree(lib), (), tree(lib))
    assert info.to_host() == wanted.to_host()


def test_in_place_arrays_that_are_immutable_are_refused():
    lib = arrays.library("jax")
    with pytest.raises(TypeError, match="must hold arrays that can be written in place"):
        agclip.ClipByGlobalNorm(1.0).update_(tree(lib), ())


def test_rules_are_values(case):
    rule, _, _ = case
    twin = dataclasses.replace(rule)
    assert rule == twin
    assert hash(rule) == hash(twin)
    assert isinstance(rule, agclip.Rule)


def test_the_settings_fill_in_what_a_rule_leaves_open():
    grads = np.asarray([math.nan, 1.0], dtype="float32")
    rule = agclip.ClipByGlobalNorm(1.0)
    with agclip.config.config_context(nonfinite="zero"):
        clipped, _, _ = rule.update(grads, ())
        kept = agclip.Clipper(rule)
    assert clipped.tolist() == [0.0, 0.0]
    assert kept(grads)[0].tolist() == [0.0, 0.0]
    assert np.isnan(rule.update(grads, ())[0]).all()


def test_a_record_within_jit_has_no_values():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    lib = arrays.library("jax")

    def step(grads):
        return agclip.ClipByGlobalNorm(1.0).update(grads, ())[2].to_host()

    with pytest.raises(ValueError, match=r"^`info` must hold values to bring to the host; got tr"):
        jax.jit(step)(tree(lib))


def test_a_record_on_the_host_stays_there():
    host = agclip.ClipByGlobalNorm(1.0).update(tree(arrays.library("numpy")), ())[2].to_host()
    assert host.to_host() is host


@pytest.mark.parametrize("name", thinned(CASES, COMPILED))
def test_one_jit_trace_and_the_same_record(name):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    lib = arrays.library("jax")
    rule, _, _ = CASES[name]
    traces = []

    @jax.jit
    def step(grads):
        traces.append(1)
        return rule.update(grads, (), grads)

    step(tree(lib))
    clipped, _, info = step(tree(lib))
    wanted, _, other = rule.update(tree(lib), (), tree(lib))
    assert len(traces) == 1
    assert info.to_host() == other.to_host()
    assert entries(lib, clipped) == entries(lib, wanted)


@pytest.mark.parametrize("name", thinned(CASES, COMPILED))
def test_torch_compiles_a_rule_whole(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    lib = arrays.library("torch")
    rule, _, _ = CASES[name]
    torch._dynamo.reset()
    step = torch.compile(rule.update, backend="eager", fullgraph=True)
    clipped, _, info = step(tree(lib), (), tree(lib))
    wanted, _, other = rule.update(tree(lib), (), tree(lib))
    assert info.to_host() == other.to_host()
    assert entries(lib, clipped) == entries(lib, wanted)


def test_options_that_a_scheduled_rule_does_not_have():
    with pytest.raises(TypeError, match="unexpected keyword argument 'axis'"):
        agclip.Scheduled(agclip.ClipByGlobalNorm, lambda _: 1.0, axis=0)


def test_a_threshold_may_be_an_array_and_is_checked_where_it_is_used():
    clipped, _, _ = agclip.ClipByNorm(np.asarray(1.0)).update(np.asarray([4.0]), ())
    assert clipped.tolist() == [1.0]
    with pytest.raises(ValueError, match="`clip_norm` must be a number >= 0"):
        agclip.ClipByNorm(np.asarray(-1.0)).update(np.asarray([4.0]), ())
