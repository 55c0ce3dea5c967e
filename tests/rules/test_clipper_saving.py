"""Clipper: what is saved loads again, and what is loaded is judged first."""

import json
import math

import numpy as np
import pytest

import agclip
import arrays

ADVICE = "Load what state_dict() of the same rule on the same parameters returned."
RULES = {
    "global": agclip.ClipByGlobalNorm(1.0),
    "zclip": agclip.ZClip(warmup=1),
    "autoclip": agclip.AutoClip(50.0),
    "autoclip, window": agclip.AutoClip(50.0, window=3),
    "quantile": agclip.QuantileClip(1.0),
    "adagc": agclip.AdaGC(warmup=1),
    "spike": agclip.SpikeClip(4.0, 0.5, 1),
    "scheduled": agclip.Scheduled(agclip.ClipByGlobalNorm, lambda step: 2.0 / (1 + step)),
    "chain": agclip.Chain(agclip.QuantileClip(1.0), agclip.ClipByNorm(0.5)),
    "per group": agclip.PerGroup({"a*": agclip.AdaGC(warmup=1), "b": agclip.ZClip(warmup=1)}),
}
MAXIMUM = 2**31 - 2


@pytest.fixture(params=RULES, ids=lambda name: name.replace(", ", "-").replace(" ", "-"))
def rule(request):
    return RULES[request.param]


def grads(scale=1.0, *, first=True):
    return {"a": np.asarray([3.0, 4.0]) * scale if first else None, "b": np.asarray([scale])}


def through_json(clipper):
    return json.loads(json.dumps(clipper.state_dict()))


# --- what is saved loads -----------------------------------------------------------------------


def test_what_is_saved_before_the_first_step_loads(rule):
    new, late, wanted = (agclip.Clipper(rule) for _ in range(3))
    late(grads(4.0))
    for clipper in (new, late):
        clipper.load_state_dict(through_json(agclip.Clipper(rule)))
        assert clipper.state_dict() == agclip.Clipper(rule).state_dict()
    expected = wanted(grads())[1].to_host()
    assert new(grads())[1].to_host() == late(grads())[1].to_host() == expected


def test_a_run_goes_on_where_it_was_saved(rule):
    stays, arrives = agclip.Clipper(rule), agclip.Clipper(rule)
    stays(grads())
    arrives.load_state_dict(through_json(stays))
    assert arrives.state_dict() == stays.state_dict()
    assert repr(arrives) == repr(stays)
    for scale in (4.0, 0.5):
        assert arrives(grads(scale))[1].to_host() == stays(grads(scale))[1].to_host()
    assert arrives.state_dict() == stays.state_dict()


@pytest.mark.parametrize("first", [True, False], ids=["whole", "in-part"])
def test_leaves_without_gradients_keep_what_was_saved(rule, first):
    """Both ways: a leaf has no gradient in the step that was saved, or in the first one after."""
    stays, arrives = agclip.Clipper(rule), agclip.Clipper(rule)
    stays(grads(first=first))
    stays(grads(2.0, first=first))
    arrives.load_state_dict(through_json(stays))
    for scale, there in ((1.0, not first), (4.0, True), (0.5, True)):
        wanted = stays(grads(scale, first=there))[1].to_host()
        assert arrives(grads(scale, first=there))[1].to_host() == wanted
    assert arrives.state_dict() == stays.state_dict()


def test_a_step_without_gradients_keeps_what_was_loaded(rule):
    stays, arrives = agclip.Clipper(rule), agclip.Clipper(rule)
    stays(grads())
    arrives.load_state_dict(through_json(stays))
    with pytest.warns(UserWarning, match="holds no array"):
        arrives({"a": None, "b": None})
    assert arrives.state_dict()["state"] == stays.state_dict()["state"]
    assert arrives(grads(4.0))[1].to_host() == stays(grads(4.0))[1].to_host()


def test_data_of_an_older_version_loads(rule):
    stays, arrives = agclip.Clipper(rule), agclip.Clipper(rule)
    stays(grads())
    saved = through_json(stays)
    arrives.load_state_dict({"rule": saved["rule"], "state": saved["state"]})
    assert arrives(grads(4.0))[1].to_host() == stays(grads(4.0))[1].to_host()


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_a_leaf_may_be_called_as_an_array_that_grows(name):
    lib = arrays.library(name)
    stays, arrives = agclip.Clipper(agclip.AdaGC()), agclip.Clipper(agclip.AdaGC())
    stays({"history": lib.array([1.0])})
    saved = stays.state_dict()
    saved["state"]["average"]["history"] = [1.0]
    with pytest.raises(ValueError, match=r"\['history'\]` must have the shape \(\); got \(1,\)"):
        arrives.load_state_dict(saved)


def test_changing_what_was_saved_changes_no_clipper():
    stays, arrives = agclip.Clipper(RULES["adagc"]), agclip.Clipper(RULES["adagc"])
    stays(grads())
    saved = stays.state_dict()
    arrives.load_state_dict(saved)
    arrives.state_dict()["state"]["average"]["a"] = 9.0
    saved["state"]["average"]["a"] = 9.0
    assert arrives.state_dict() == stays.state_dict()


# --- the rule's own arguments ------------------------------------------------------------------

CHANGED = {
    "window": (agclip.AutoClip(window=3), agclip.AutoClip(window=5), "['window']", 5, 3),
    "percentile": (agclip.AutoClip(9.0), agclip.AutoClip(90), "['percentile']", 90, 9.0),
    "target": (
        agclip.ZClip(target="mean"),
        agclip.ZClip(),
        "['target']",
        "reciprocal",
        "mean",
    ),
    "member": (
        agclip.Chain(agclip.AdaGC(warmup=3), agclip.ClipByNorm(1.0)),
        agclip.Chain(agclip.AdaGC(warmup=4), agclip.ClipByNorm(2.0)),
        "['rules'][0]['warmup']",
        4,
        3,
    ),
    "kind of member": (
        agclip.Chain(agclip.AdaGC(), agclip.ClipByNorm(1.0)),
        agclip.Chain(agclip.AdaGC(), agclip.ClipByRMS(1.0)),
        "['rules'][1]['rule']",
        "ClipByRMS",
        "ClipByNorm",
    ),
    "pattern": (
        agclip.PerGroup({"a": agclip.ZClip(), "*": None}),
        agclip.PerGroup({"b": agclip.ZClip(), "*": None}),
        "['groups'][0][0]",
        "b",
        "a",
    ),
    "class": (
        agclip.Scheduled(agclip.ClipByNorm, float),
        agclip.Scheduled(agclip.ClipByRMS, float),
        "['rule_class']",
        "ClipByRMS",
        "ClipByNorm",
    ),
}


@pytest.mark.parametrize("name", CHANGED, ids=lambda name: name.replace(" ", "-"))
def test_the_state_of_a_rule_with_other_arguments_is_refused(name):
    saved, now, path, wanted, found = CHANGED[name]
    with pytest.raises(ValueError, match="as in the rule of this clipper") as error:
        agclip.Clipper(now).load_state_dict(through_json(agclip.Clipper(saved)))
    assert str(error.value) == (
        f"`state_dict['arguments']{path}` must be {wanted!r}, as in the rule of this clipper; got "
        f"{found!r}. Make the clipper with that argument, or take 'arguments' out of the data to "
        f"go on with this one."
    )


def test_without_arguments_statistics_go_on_in_a_rule_with_others():
    stays, arrives = (agclip.Clipper(agclip.AutoClip(p, window=3)) for p in (9.0, 100.0))
    stays(np.asarray([4.0]))
    saved = stays.state_dict()
    del saved["arguments"]
    arrives.load_state_dict(saved)
    assert arrives(np.asarray([2.0]))[1].to_host().threshold == 4.0


def test_without_arguments_another_window_is_one_of_another_shape():
    saved = agclip.Clipper(agclip.AutoClip(window=3))
    saved(np.asarray([4.0]))
    data = {**saved.state_dict(), "arguments": {}}
    with pytest.raises(ValueError, match="must have the shape") as error:
        agclip.Clipper(agclip.AutoClip(window=5)).load_state_dict(data)
    assert str(error.value) == (
        f"`state_dict['state']['norms']` must have the shape (5,); got (3,). {ADVICE}"
    )


def test_what_does_not_bear_on_a_memory_may_change():
    saved = agclip.Clipper(agclip.ZClip(nonfinite="zero", loss_scale=8.0))
    arrives = agclip.Clipper(agclip.ZClip(nonfinite="skip"))
    saved(np.asarray([4.0]))
    arrives.load_state_dict(saved.state_dict())
    assert arrives.step == 1


def test_arguments_are_those_of_no_other_version():
    data = agclip.Clipper(agclip.ZClip()).state_dict()
    del data["arguments"]["eps"]
    data["arguments"]["new"] = 3
    clipper = agclip.Clipper(agclip.ZClip())
    clipper.load_state_dict({**data, "step": 7})
    assert clipper.step == 7


# --- values ------------------------------------------------------------------------------------

STATES = {
    "ZClip": {"count": 3, "seen": 3, "mean": 1.0, "variance": 0.25},
    "AutoClip": {"count": 3, "seen": 3, "norms": [1.0, 2.0, 3.0]},
    "QuantileClip": {"threshold": 0.5},
    "AdaGC": {"count": 3, "average": {"a": 1.0, "b": 0.0}, "joined": {"b": 2}},
    "SpikeClip": {"count": 3, "second_moment": {"a": [1.0, 0.0], "b": [0.5]}},
    "Scheduled": {"step": 3},
}
MADE = {
    "ZClip": agclip.ZClip(),
    "AutoClip": agclip.AutoClip(window=3),
    "QuantileClip": agclip.QuantileClip(),
    "AdaGC": agclip.AdaGC(),
    "SpikeClip": agclip.SpikeClip(),
    "Scheduled": RULES["scheduled"],
}
COUNTS = [
    ("ZClip", ("count",)),
    ("ZClip", ("seen",)),
    ("AutoClip", ("seen",)),
    ("AdaGC", ("joined", "b")),
    ("SpikeClip", ("count",)),
    ("Scheduled", ("step",)),
]
SIZES = [
    ("ZClip", ("mean",)),
    ("ZClip", ("variance",)),
    ("AutoClip", ("norms", 1)),
    ("AdaGC", ("average", "a")),
    ("SpikeClip", ("second_moment", "a", 0)),
]
BAD_COUNTS = {
    "negative": (-1, "-1"),
    "too large": (2**31 - 1, "2147483647"),
    "far too large": (10**400, "an integer of 1329 bits"),
    "unprintable": (10**5000, "an integer of 16610 bits"),
    "a fraction": (1.5, "1.5"),
    "NaN": (math.nan, "nan"),
    "infinite": (math.inf, "inf"),
}
BAD_SIZES = {
    "negative": (-1.0, "-1.0"),
    "NaN": (math.nan, "nan"),
    "infinite": (math.inf, "inf"),
    "too large": (10**400, "an integer of 1329 bits"),
}


def with_value(name, keys, value):
    """A state with one number changed, and how its place reads."""
    state = json.loads(json.dumps(STATES[name]))
    inner = state
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    named = [key for key in keys if isinstance(key, str)]
    return {"rule": name, "state": state}, "".join(f"[{key!r}]" for key in ("state", *named))


def loading(name, data):
    clipper = agclip.Clipper(MADE[name])
    clipper.load_state_dict({"rule": name, "state": STATES[name]})
    before = clipper.state_dict()
    with pytest.raises(ValueError, match="must") as error:
        clipper.load_state_dict(data)
    assert clipper.state_dict() == before
    return str(error.value)


@pytest.mark.parametrize("case", BAD_COUNTS, ids=lambda name: name.replace(" ", "-"))
@pytest.mark.parametrize(("name", "keys"), COUNTS, ids=str)
def test_counts_are_judged(name, keys, case):
    value, shown = BAD_COUNTS[case]
    data, place = with_value(name, keys, value)
    assert loading(name, data) == (
        f"`state_dict{place}` must be an integer from 0 to {MAXIMUM}; got {shown}. {ADVICE}"
    )


@pytest.mark.parametrize("case", BAD_SIZES, ids=lambda name: name.replace(" ", "-"))
@pytest.mark.parametrize(("name", "keys"), SIZES, ids=str)
def test_statistics_are_judged(name, keys, case):
    value, shown = BAD_SIZES[case]
    data, place = with_value(name, keys, value)
    must = "hold" if isinstance(keys[-1], int) else "be"
    assert loading(name, data) == (
        f"`state_dict{place}` must {must} a finite number >= 0; got {shown}. {ADVICE}"
    )


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_bounds_are_judged(value):
    data, place = with_value("QuantileClip", ("threshold",), value)
    assert loading("QuantileClip", data) == (
        f"`state_dict{place}` must be a finite number > 0; got {value}. {ADVICE}"
    )


def test_a_history_that_has_seen_more_than_it_holds_is_refused():
    data = {"rule": "AutoClip", "state": {"count": 3, "seen": 3, "history": [1.0, 2.0]}}
    with pytest.raises(ValueError, match="at most the length") as error:
        agclip.Clipper(agclip.AutoClip()).load_state_dict(data)
    assert str(error.value) == (
        f"`state_dict['state']['seen']` must be at most the length of 'history', 2; got 3. {ADVICE}"
    )


def test_a_history_without_room_is_refused():
    data = {"rule": "AutoClip", "state": {"count": 0, "seen": 0, "history": []}}
    with pytest.raises(ValueError, match=r"\['history'\]` must have the shape \(any,\); got \(0,"):
        agclip.Clipper(agclip.AutoClip()).load_state_dict(data)


@pytest.mark.parametrize(
    ("keys", "error", "text"),
    [
        (
            {"arguments": [3]},
            TypeError,
            "`state_dict['arguments']` must be a dict; got list.",
        ),
        (
            {"step": "3"},
            TypeError,
            f"`state_dict['step']` must hold numbers; got str. {ADVICE}",
        ),
        (
            {"step": -3},
            ValueError,
            f"`state_dict['step']` must be an integer from 0 to {MAXIMUM}; got -3. {ADVICE}",
        ),
        (
            {"more": 1},
            ValueError,
            (
                "`state_dict` must have the keys 'rule' and 'state', and may have 'arguments' and "
                "'step'; got 'rule', 'state', 'more'."
            ),
        ),
        (
            {"state": {**STATES["AdaGC"], "average": [1.0]}},
            TypeError,
            f"`state_dict['state']['average']` must be a dict; got list. {ADVICE}",
        ),
        (
            {"state": {**STATES["AdaGC"], "seen": 1}},
            ValueError,
            (
                "`state_dict['state']` must have the keys 'count', 'average'; got 'count', "
                f"'average', 'joined', 'seen'. {ADVICE}"
            ),
        ),
    ],
    ids=str,
)
def test_parts_are_judged_before_the_first_step(keys, error, text):
    clipper = agclip.Clipper(agclip.AdaGC())
    with pytest.raises(error) as raised:
        clipper.load_state_dict({"rule": "AdaGC", "state": STATES["AdaGC"], **keys})
    assert str(raised.value) == text
    assert clipper.state_dict() == agclip.Clipper(agclip.AdaGC()).state_dict()


def test_only_leaves_may_join():
    with pytest.raises(ValueError, match=r"'variance'; got 'count', 'seen', 'mean', 'variance', '"):
        agclip.Clipper(agclip.ZClip()).load_state_dict(
            {"rule": "ZClip", "state": {**STATES["ZClip"], "joined": {}}}
        )


def test_shapes_that_need_gradients_are_judged_at_the_first_step():
    clipper = agclip.Clipper(agclip.SpikeClip())
    clipper.load_state_dict({"rule": "SpikeClip", "state": STATES["SpikeClip"]})
    before = clipper.state_dict()
    with pytest.raises(ValueError, match="must have the shapes") as error:
        clipper({"a": np.ones(3)})
    assert str(error.value) == (
        "`grads` must have the shapes that the state was made for; got (3,) at grads['a'] and "
        "(2,) at state['second_moment']['a']. Make a new state with init(params)."
    )
    assert clipper.state_dict() == before


@pytest.mark.parametrize("name", ["AdaGC", "SpikeClip"])
def test_the_state_of_another_tree_is_refused_at_the_first_step(name):
    clipper = agclip.Clipper(MADE[name])
    clipper.load_state_dict({"rule": name, "state": STATES[name]})
    with pytest.raises(ValueError, match="of the same leaves") as error:
        clipper({"x": np.ones(2), "y": None})
    assert str(error.value) == (
        "`state_dict['state']` must be of the same leaves as `grads`; got 'a' there, and 'x' here. "
        "Load what state_dict() of the same rule on the same parameters returned, or call reset()."
    )


@pytest.mark.parametrize("keys", ["a", "b"])
def test_a_tree_that_shares_a_place_is_no_other_tree(keys):
    clipper = agclip.Clipper(agclip.AdaGC())
    clipper.load_state_dict({"rule": "AdaGC", "state": STATES["AdaGC"]})
    clipper({"x": np.ones(2), keys: None})
    assert set(clipper.state_dict()["state"]["average"]) == {"a", "b", "x"}


# --- rules of others' making -------------------------------------------------------------------


class Counted:
    """A rule of another's making, with a memory."""

    def init(self, params):
        return {"calls": np.zeros((), dtype="int32")}

    def update(self, grads, state, params=None):
        clipped, _, info = agclip.ClipByGlobalNorm(None).update(grads, ())
        return clipped, {"calls": state["calls"] + np.int32(1)}, info


@pytest.mark.parametrize("rule", [Counted(), agclip.Chain(Counted(), agclip.ClipByNorm(1.0))])
def test_states_of_others_rules_are_saved_and_loaded(rule):
    stays, arrives = agclip.Clipper(rule), agclip.Clipper(rule)
    stays(grads())
    arrives.load_state_dict(through_json(stays))
    for clipper in (stays, arrives):
        clipper(grads())
    assert arrives.state_dict() == stays.state_dict()


def test_states_of_others_rules_are_checked_like_the_one_there_is():
    clipper = agclip.Clipper(Counted())
    clipper(grads())
    for state, text in (
        ({"called": 1}, "must have the keys 'calls'; got 'called'"),
        ({"calls": [1]}, r"\['calls'\]` must have the shape \(\); got \(1,\)"),
    ):
        with pytest.raises(ValueError, match=text):
            clipper.load_state_dict({"rule": "Counted", "state": state})
    assert clipper.state_dict()["state"] == {"calls": 1}
