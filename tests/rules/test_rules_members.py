"""Rules made of rules: all or nothing in place, steps in which members have no gradients."""

import math

import numpy as np
import pytest

import agclip
import arrays

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(params=arrays.WRITABLE)
def lib(request):
    return arrays.library(request.param)


class Halve:
    """A rule of another's making, which has no way of working in place."""

    def init(self, params):
        return {"steps": 0}

    def update(self, grads, state, params=None):
        new, _, info = agclip.ClipByGlobalNorm(None).update(grads, ())
        return {key: leaf * 0.5 for key, leaf in new.items()}, {"steps": state["steps"] + 1}, info


MEMORY = {
    "zclip": agclip.ZClip(),
    "autoclip": agclip.AutoClip(window=3),
    "quantile": agclip.QuantileClip(),
    "adagc": agclip.AdaGC(),
    "spike": agclip.SpikeClip(),
}


@pytest.fixture(params=MEMORY)
def rule(request):
    return MEMORY[request.param]


def values(lib, tree):
    return {key: lib.entries(leaf).tolist() for key, leaf in tree.items()}


# --- all or nothing ----------------------------------------------------------------------------


def test_a_chain_whose_later_rule_is_refused_writes_nothing(lib):
    chain = agclip.Chain(agclip.ClipByNorm(1.0), agclip.AdaptiveGradClip(unit_axes="out_in"))
    tree = {"w": lib.array([3.0, 4.0])}
    with pytest.raises(TypeError, match="`params` must be the parameters"):
        chain.update_(tree, ())
    assert values(lib, tree) == {"w": [3.0, 4.0]}


def test_a_group_that_is_refused_leaves_the_groups_before_it(lib):
    rule = agclip.PerGroup(
        {"a": agclip.ClipByNorm(1.0), "b": agclip.ClipByNorm(1.0, nonfinite="error")}
    )
    tree = {"a": lib.array([3.0, 4.0]), "b": lib.array([math.nan])}
    with pytest.raises(FloatingPointError, match="NaN at grads"):
        rule.update_(tree, ())
    assert values(lib, tree)["a"] == [3.0, 4.0]


def test_members_of_anothers_making_work_in_place(lib):
    rule = agclip.PerGroup({"a": Halve(), "b": agclip.ClipByNorm(1.0)})
    tree = {"a": lib.array([3.0, 4.0]), "b": lib.array([0.0, 2.0])}
    given, state, _ = rule.update_(tree, ())
    assert given is tree
    assert state == {"a": {"steps": 1}, "b": ()}
    assert values(lib, tree) == {"a": [1.5, 2.0], "b": [0.0, 1.0]}


def test_a_chain_in_place_ends_as_the_new_one_does(lib):
    chain = agclip.Chain([agclip.ClipByValue(-1.0, 2.0), Halve()])
    tree = {"w": lib.array([3.0, -4.0])}
    chain.update_(tree, ())
    assert values(lib, tree) == {"w": [1.0, -0.5]}


def test_memory_in_two_groups_is_refused_in_place(lib):
    one = lib.array([3.0, 4.0])
    rule = agclip.PerGroup({"a": agclip.ClipByNorm(1.0), "b": agclip.ClipByNorm(2.0)})
    with pytest.raises(TypeError) as caught:
        rule.update_({"a": one, "b": one}, ())
    assert str(caught.value) == (
        "`grads` must have leaves that share memory in one group to be clipped in place; got 'a' "
        "and 'b' in two. Name both in one pattern, or clip without `inplace`."
    )
    assert lib.entries(one).tolist() == [3.0, 4.0]


# --- steps without gradients -------------------------------------------------------------------


def test_a_group_without_gradients_in_a_step_is_left_out(lib, rule):
    groups = agclip.PerGroup({"actor": rule, "critic": agclip.ClipByNorm(1.0)})
    state = ()
    for step in range(4):
        actor = lib.array([3.0, 4.0]) if step % 2 else None
        tree = {"actor": actor, "critic": lib.array([0.0, 2.0])}
        clipped, state, info = groups.update(tree, state)
        assert lib.entries(clipped["critic"]).tolist() == [0.0, 1.0]
        assert (clipped["actor"] is None) == (step % 2 == 0)
        assert set(info.leaf_norms) == ({"actor", "critic"} if step % 2 else {"critic"})
    alone, wanted = rule.init({"actor": lib.array([3.0, 4.0])}), None
    for _ in range(2):
        wanted, alone, _ = rule.update({"actor": lib.array([3.0, 4.0])}, alone)
    assert lib.entries(clipped["actor"]).tolist() == lib.entries(wanted["actor"]).tolist()


def test_a_pattern_that_fits_no_place_is_refused_whatever_holds_none(lib):
    rule = agclip.PerGroup({"actr": None, "*": None})
    with pytest.raises(ValueError, match=r"'actr', which fits none\. A path there is 'actor'"):
        rule.update({"actor": None, "critic": lib.array([1.0])}, ())


COMBINED = {
    "chain": lambda rule: agclip.Chain(rule, agclip.ClipByNorm(1.0)),
    "per_group": lambda rule: agclip.PerGroup({"*": rule}),
    "scheduled": lambda _: agclip.Scheduled(agclip.ClipByNorm, lambda step: 1.0 + step),
    "alone": lambda rule: rule,
}


@pytest.fixture(params=COMBINED)
def combined(request, rule):
    return COMBINED[request.param](rule)


def test_a_first_step_without_gradients_makes_no_state(lib, combined):
    late, early = agclip.Clipper(combined), agclip.Clipper(combined)
    with pytest.warns(UserWarning, match="holds no array"):
        late({"w": None})
    for scale in (1.0, 2.0, 0.5):
        results = [one({"w": lib.array([3.0 * scale, 4.0 * scale])}) for one in (late, early)]
        (tree, info), (wanted, right) = results
        assert values(lib, tree) == values(lib, wanted)
        assert repr(info.to_host()) == repr(right.to_host())


@pytest.mark.parametrize(
    "rule",
    [
        agclip.Chain(Halve()),
        agclip.PerGroup({"*": Halve()}),
        agclip.Scheduled(agclip.ClipByNorm, float),
    ],
    ids=["chain", "per_group", "scheduled"],
)
def test_a_state_of_another_kind_is_refused(lib, rule):
    with pytest.raises(TypeError) as caught:
        rule.update({"w": lib.array([1.0])}, [1])
    assert str(caught.value) == (
        "`state` must be what init(params) or the last step of this rule returned; got list. "
        "Begin with init(params)."
    )


# --- how they are written ----------------------------------------------------------------------


def test_a_chain_takes_its_rules_as_a_list_or_one_after_the_other():
    first, second = agclip.ClipByValue(-1.0, 1.0), agclip.ClipByNorm(1.0)
    chains = [
        agclip.Chain(first, second),
        agclip.Chain([first, second]),
        agclip.Chain(rules=(first, second)),
    ]
    assert [chain.rules for chain in chains] == [(first, second)] * 3


REPRS = {
    "ClipByGlobalNorm(clip_norm=1.0)": agclip.ClipByGlobalNorm(1.0),
    "ClipByNorm(clip_norm=2, axes=(0, 1), nonfinite='zero')": agclip.ClipByNorm(
        2, [0, 1], nonfinite="zero"
    ),
    "AdaptiveGradClip(clipping=0.5, strict=True, unit_axes='in_out')": agclip.AdaptiveGradClip(
        0.5, unit_axes="in_out", strict=True
    ),
    "ZClip()": agclip.ZClip(),
    "ZClip(warmup=3, max_norm=None)": agclip.ZClip(warmup=3, max_norm=None),
    "ClipByValue(clip_value_min=None, clip_value_max=1.0)": agclip.ClipByValue(None, 1.0),
    "Chain(QuantileClip(initial=1.0), SpikeClip())": agclip.Chain(
        agclip.QuantileClip(1.0), agclip.SpikeClip()
    ),
    "PerGroup({'w*': AdaGC(), '*': None})": agclip.PerGroup({"w*": agclip.AdaGC(), "*": None}),
}


@pytest.mark.parametrize("shown", REPRS)
def test_a_rule_shows_what_differs_from_its_defaults(shown):
    assert repr(REPRS[shown]) == shown


def test_a_schedule_shows_its_class_and_options():
    rule = agclip.Scheduled(agclip.ClipByRMS, math.sqrt, nonfinite="skip", strict=None)
    assert repr(rule) == "Scheduled(ClipByRMS, <built-in function sqrt>, nonfinite='skip')"


def test_a_rule_with_an_array_for_its_bound_can_be_shown():
    assert "clip_norm=array" in repr(agclip.ClipByNorm(np.asarray(1.0)))


def test_a_rule_shows_its_arguments_and_its_steps_alone():
    public = {one for one in dir(agclip.ClipByGlobalNorm(1.0)) if not one.startswith("_")}
    options = {"clip_norm", "ord", "nonfinite", "strict", "reproducible", "loss_scale"}
    options |= {"comm", "replicas"}
    assert public == {"init", "update", "update_"} | options
