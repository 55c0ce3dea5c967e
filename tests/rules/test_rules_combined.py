"""Rules made of rules: one after another, one for each group, one with a schedule."""

import math

import numpy as np
import pytest

import agclip
import arrays

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)


def model(lib):
    return {
        "layers": [{"weight": lib.array([[3.0, 4.0]]), "bias": lib.array([8.0])}],
        "head": {"weight": lib.array([6.0, 8.0]), "bias": None},
    }


def test_a_chain_applies_one_rule_to_what_another_returns(lib):
    rule = agclip.Chain([agclip.ClipByGlobalNorm(1.0), agclip.ClipByValue(-0.7, 0.7)])
    clipped, state, info = rule.update(lib.array([3.0, 4.0]), rule.init(lib.array([3.0, 4.0])))
    host = info.to_host()
    assert lib.entries(clipped) == pytest.approx([0.6, 0.7])
    assert (host.norm, host.threshold, host.clipped) == (5.0, 0.7, True)
    assert host.scale == pytest.approx(0.2 * 0.7 / 0.8)
    assert state == {"0": (), "1": ()}


def test_a_chain_skips_by_what_comes_out(lib):
    rule = agclip.Chain([agclip.ClipByNorm(1.0, nonfinite="zero"), agclip.ClipByGlobalNorm(1.0)])
    _, _, info = rule.update(lib.array([math.nan]), rule.init(lib.array([1.0])))
    assert (info.to_host().nonfinite, info.to_host().skip) == (True, False)


def test_groups_have_rules_of_their_own(lib):
    rule = agclip.PerGroup(
        {"*.bias": agclip.ClipByNorm(2.0), "layers.*": agclip.ClipByGlobalNorm(1.0), "*": None}
    )
    clipped, state, info = rule.update(model(lib), rule.init(model(lib)))
    layer = clipped["layers"][0]
    assert lib.entries(layer["weight"]) == pytest.approx(np.asarray([[0.6, 0.8]]))
    assert lib.entries(layer["bias"]).tolist() == [2.0]
    assert lib.entries(clipped["head"]["weight"]).tolist() == [6.0, 8.0]
    assert clipped["head"]["bias"] is None
    assert state == {"*.bias": (), "layers.*": (), "*": ()}
    host = info.to_host()
    assert host.norm == pytest.approx(math.hypot(5.0, 8.0))
    assert (host.scale, host.threshold) == pytest.approx((0.2, 1.0))
    assert host.leaf_norms == {"layers.0.bias": 8.0, "layers.0.weight": 5.0}


def test_groups_see_their_parameters(lib):
    rule = agclip.PerGroup({"head.*": agclip.AdaptiveGradClip(0.5, unit_axes="out_in"), "*": None})
    clipped, _, _ = rule.update(model(lib), rule.init(model(lib)), model(lib))
    assert lib.entries(clipped["head"]["weight"]).tolist() == [3.0, 4.0]


def test_groups_keep_states_of_their_own(lib):
    rule = agclip.PerGroup({"head.*": agclip.QuantileClip(1.0), "*": agclip.AdaGC(warmup=1)})
    clipper = agclip.Clipper(rule)
    clipper(model(lib))
    state = clipper.state_dict()["state"]
    assert state["head.*"] == {"threshold": pytest.approx(math.exp(0.1))}
    assert set(state["*"]["average"]) == {"layers.0.weight", "layers.0.bias"}
    again = agclip.Clipper(rule)
    again.load_state_dict(clipper.state_dict())
    again(model(lib))
    clipper(model(lib))
    assert again.state_dict() == clipper.state_dict()


@pytest.mark.parametrize("name", arrays.WRITABLE)
def test_combined_rules_work_in_place(name):
    lib = arrays.library(name)
    rule = agclip.PerGroup(
        {"head.*": agclip.Chain([agclip.ClipByNorm(5.0), agclip.ClipByValue(-3.5, 3.5)]), "*": None}
    )
    grads = model(lib)
    weight = grads["head"]["weight"]
    clipped, _, _ = rule.update_(grads, rule.init(grads))
    assert clipped is grads
    assert lib.entries(weight).tolist() == [3.0, 3.5]


def test_groups_that_no_rule_looks_at(lib):
    rule = agclip.PerGroup({"*": None})
    clipped, _, info = rule.update(lib.array([3.0]), rule.init(lib.array([3.0])))
    assert lib.entries(clipped).tolist() == [3.0]
    assert info.to_host() == (0.0, 1.0, math.inf, False, False, {}, False)


def test_a_group_that_others_have_emptied(lib):
    rule = agclip.PerGroup({"layers.*": None, "*": agclip.ZClip()})
    grads = {"layers": [lib.array([3.0])]}
    clipped, state, _ = rule.update(grads, rule.init(grads))
    assert lib.entries(clipped["layers"][0]).tolist() == [3.0]
    assert state == {"layers.*": (), "*": ()}


def test_a_flat_dict_has_the_paths_of_a_tree(lib):
    rule = agclip.PerGroup({"layers.*.bias": agclip.ClipByNorm(1.0), "*": None})
    grads = {"layers.0.bias": lib.array([2.0]), "layers.0.weight": lib.array([2.0])}
    clipped, _, _ = rule.update(grads, rule.init(grads))
    assert lib.entries(clipped["layers.0.bias"]).tolist() == [1.0]
    assert lib.entries(clipped["layers.0.weight"]).tolist() == [2.0]


@pytest.mark.parametrize(
    ("rule", "first"),
    [
        (agclip.Scheduled(agclip.ClipByGlobalNorm, lambda t: 4.0 / (1 + t)), 4.0),
        (agclip.Scheduled(agclip.ClipByNorm, lambda t: 4.0 / (1 + t), axes=0), 4.0),
        (agclip.Scheduled(agclip.ClipByRMS, lambda t: 4.0 / (1 + t), strict=True), 4.0),
        (agclip.Scheduled(agclip.AdaptiveGradClip, lambda t: 4.0 / (1 + t), unit_axes="in_out"), 4),
    ],
    ids=lambda x: getattr(x, "rule_class", type(x)).__name__,
)
def test_a_threshold_follows_its_schedule_from_step_zero(lib, rule, first):
    clipper = agclip.Clipper(rule)
    grads = lib.array([3.0, 4.0])
    infos = [clipper(grads, grads)[1].to_host() for _ in range(4)]
    assert [info.threshold for info in infos] == [first, first / 2, first / 3, first / 4]


def test_schedules_may_be_numbers_and_states_are_kept(lib):
    clipper = agclip.Clipper(agclip.Scheduled(agclip.ClipByGlobalNorm, lambda _: 2.0))
    assert lib.entries(clipper(lib.array([4.0]))[0]).tolist() == [2.0]
    assert clipper.state_dict()["state"] == {"step": 1}


def test_schedules_are_traced_once():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    lib = arrays.library("jax")
    traces = []

    def schedule(step):
        traces.append(1)
        return jax.numpy.where(step < 2, 1.0, 0.5)

    rule = agclip.Scheduled(agclip.ClipByGlobalNorm, schedule)
    step = jax.jit(rule.update)
    state = rule.init(lib.array([1.0]))
    got = []
    for _ in range(4):
        _, state, info = step(lib.array([4.0]), state)
        got.append(info.to_host().threshold)
    assert got == [1.0, 1.0, 0.5, 0.5]
    assert len(traces) == 1


COMPILED = [
    agclip.Chain([agclip.ZClip(warmup=1), agclip.ClipByValue(-1.0, 1.0)]),
    agclip.PerGroup({"*.bias": None, "*": agclip.QuantileClip()}),
    agclip.Scheduled(agclip.ClipByGlobalNorm, lambda t: 4.0 / (1 + t)),
]


@pytest.mark.parametrize("rule", COMPILED, ids=lambda rule: type(rule).__name__)
def test_torch_compiles_combined_rules_whole(rule):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    lib = arrays.library("torch")
    torch._dynamo.reset()
    step = torch.compile(rule.update, backend="eager", fullgraph=True)
    state = rule.init(model(lib))
    eager = agclip.Clipper(rule)
    for _ in range(3):
        _, state, info = step(model(lib), state)
        _, other = eager(model(lib))
    assert info.to_host() == other.to_host()
