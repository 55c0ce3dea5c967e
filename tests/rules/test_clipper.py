"""Clipper: a rule with its state, saved and loaded, or made from a file."""

import json

import numpy as np
import pytest

import agclip
from agclip.rules.from_table import RULES

GRADS = {"w": np.asarray([3.0, 4.0]), "b": [np.asarray([0.0])]}


def zclip():
    return agclip.ZClip(warmup=2)


def test_a_clipper_keeps_the_state():
    clipper = agclip.Clipper(zclip())
    assert clipper.state is None
    for _ in range(3):
        clipped, info = clipper(GRADS)
    assert clipped["w"] == pytest.approx(np.asarray([0.6, 0.8]))
    assert info.to_host().norm == 5.0
    assert clipper.state_dict()["state"]["count"] == 3


def test_in_place_the_gradients_are_overwritten():
    grads = {"w": np.asarray([3.0, 4.0])}
    clipped, _ = agclip.Clipper(agclip.ClipByGlobalNorm(1.0), inplace=True)(grads)
    assert clipped is grads
    assert grads["w"] == pytest.approx(np.asarray([0.6, 0.8]))


def test_a_clipper_shows_its_rule():
    shown = repr(agclip.Clipper(agclip.ClipByValue(-1.0, 1.0), inplace=True))
    rule = "ClipByValue(clip_value_min=-1.0, clip_value_max=1.0)"
    assert shown == f"Clipper({rule}, inplace=True, step=0)"


class Halve:
    """A rule of another's making."""

    def init(self, params):
        return ()

    def update(self, grads, state, params=None):
        clipped, _, info = agclip.ClipByGlobalNorm(None).update(grads, ())
        return {key: leaf / 2 for key, leaf in clipped.items()}, state, info


def test_rules_of_others_are_rules():
    clipped, _ = agclip.Clipper(agclip.Chain([Halve(), agclip.ClipByNorm(9.0)]))({"w": GRADS["w"]})
    assert clipped["w"].tolist() == [1.5, 2.0]


@pytest.mark.parametrize("rule", ["a rule", agclip.ZClip, None], ids=str)
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(TypeError, match=r"^`rule` must be a rule, such as ClipByGlobalNorm\(1.0\)"):
        agclip.Clipper(rule)


# Saving and loading.

SAVED = {
    "rule": "ZClip",
    "arguments": {
        "z_threshold": 2.5,
        "alpha": 0.97,
        "warmup": 2,
        "max_norm": 1.0,
        "target": "reciprocal",
        "eps": 1e-6,
    },
    "step": 1,
    "state": {"count": 1, "seen": 1, "mean": 5.0, "variance": 0.0},
}


def test_a_state_is_plain_data():
    clipper = agclip.Clipper(zclip())
    clipper(GRADS)
    assert clipper.state_dict() == SAVED
    assert json.loads(json.dumps(SAVED)) == SAVED


def test_a_state_can_be_loaded_before_and_after_the_first_call():
    early, late = agclip.Clipper(zclip()), agclip.Clipper(zclip())
    early.load_state_dict(SAVED)
    assert early.state_dict() == SAVED
    late(GRADS)
    late(GRADS)
    late.load_state_dict(SAVED)
    assert early(GRADS)[1].to_host() == late(GRADS)[1].to_host()
    assert early.state_dict() == late.state_dict()


def test_saved_arrays_are_as_good_as_lists():
    clipper = agclip.Clipper(agclip.AutoClip(window=2))
    clipper.load_state_dict(
        {"rule": "AutoClip", "state": {"count": 1, "seen": 1, "norms": np.asarray([7.0, 0.0])}}
    )
    assert clipper(GRADS)[1].to_host().threshold == pytest.approx(5.2)


@pytest.mark.parametrize(
    ("saved", "error", "text"),
    [
        ([], TypeError, "`state_dict` must be a dict; got list."),
        (
            {},
            ValueError,
            (
                "`state_dict` must have the keys 'rule' and 'state', and may have 'arguments' and "
                "'step'; got none."
            ),
        ),
        (
            {"rule": "AdaGC", "state": {}},
            ValueError,
            (
                "`state_dict` must be that of the rule ZClip; got one of AdaGC. Make the "
                "clipper with "
                "that rule."
            ),
        ),
        (
            {"rule": "ZClip", "state": [1]},
            TypeError,
            "`state_dict['state']` must be a dict; got list. ADVICE",
        ),
        (
            {"rule": "ZClip", "state": {"count": 1}},
            ValueError,
            (
                "`state_dict['state']` must have the keys 'count', 'seen', 'mean', 'variance'; got "
                "'count'. ADVICE"
            ),
        ),
        (
            {"rule": "ZClip", "state": {**SAVED["state"], "mean": [1.0]}},
            ValueError,
            "`state_dict['state']['mean']` must have the shape (); got (1,). ADVICE",
        ),
        (
            {"rule": "ZClip", "state": {**SAVED["state"], "mean": "1"}},
            TypeError,
            "`state_dict['state']['mean']` must hold numbers; got str. ADVICE",
        ),
        (
            {"rule": "ZClip", "state": {**SAVED["state"], "mean": [[1.0], [1.0, 2.0]]}},
            ValueError,
            "`state_dict['state']['mean']` must not be ragged; got rows of several lengths. ADVICE",
        ),
    ],
)
def test_what_cannot_be_loaded_is_refused_and_changes_nothing(saved, error, text):
    clipper = agclip.Clipper(zclip())
    clipper(GRADS)
    with pytest.raises(error) as raised:
        clipper.load_state_dict(saved)
    advice = "Load what state_dict() of the same rule on the same parameters returned."
    assert str(raised.value) == text.replace("ADVICE", advice)
    assert clipper.state_dict() == SAVED


def test_leaves_without_a_gradient_keep_their_state():
    clipper = agclip.Clipper(agclip.AdaGC())
    clipper(GRADS | {"v": np.asarray([2.0])})
    before = clipper.state_dict()["state"]["average"]["v"]
    clipper(GRADS | {"v": None})
    assert clipper.state_dict()["state"]["average"]["v"] == before


# From files and tables.

TABLES = {
    "value": {"clip_value_min": -1.0, "clip_value_max": 1},
    "norm": {"clip_norm": 1.0, "axes": [0]},
    "average_norm": {"clip_norm": 1.0},
    "rms": {"clip_rms": 1.0},
    "global_norm": {"clip_norm": 1.0, "ord": 1, "nonfinite": "zero"},
    "adaptive": {"unit_axes": [0, 1]},
    "autoclip": {"window": 10},
    "zclip": {"max_norm": 2.0},
    "adagc": {"warmup": 10},
    "spike": {"threshold": 50.0},
    "quantile": {"rate": 0.1},
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_a_name_in_tables(name):
    made = agclip.Clipper.from_config({"rule": name, **TABLES[name]}).rule
    arguments = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in TABLES[name].items()
    }
    assert made == agclip.Clipper(RULES[name](**arguments)).rule


def test_a_file_describes_a_clipper(tmp_path):
    path = tmp_path / "agclip.toml"
    path.write_text('nonfinite = "skip"\n[clip]\nrule = "global_norm"\nclip_norm = 0.5\n')
    made = agclip.Clipper.from_config(path, inplace=True)
    wanted = agclip.Clipper(agclip.ClipByGlobalNorm(0.5, nonfinite="skip"))
    assert made.rule == wanted.rule
    assert made.inplace


def test_an_array_of_tables_is_a_chain(tmp_path):
    path = tmp_path / "agclip.toml"
    path.write_text(
        '[[clip]]\nrule = "zclip"\n[[clip]]\nrule = "value"\n'
        "clip_value_min = -1.0\nclip_value_max = 1.0\n"
    )
    made = agclip.Clipper.from_config(str(path)).rule
    chain = agclip.Chain([agclip.ZClip(), agclip.ClipByValue(-1.0, 1.0)])
    assert made == agclip.Clipper(chain).rule


def test_the_settings_describe_a_clipper():
    with agclip.config.config_context(clip={"rule": "rms", "clip_rms": 2.0}, strict=True):
        made = agclip.Clipper.from_config()
    assert made.rule.clip_rms == 2.0
    assert made.rule.strict
