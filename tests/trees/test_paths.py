"""How rules spell the places of leaves: as in a state dict, and never two alike."""

import collections
import enum
import json
import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agclip

RULES = {
    "value": agclip.ClipByValue(-1.0, 1.0),
    "norm": agclip.ClipByNorm(1.0),
    "average norm": agclip.ClipByAverageNorm(1.0),
    "rms": agclip.ClipByRMS(1.0),
    "global norm": agclip.ClipByGlobalNorm(1.0),
    "adaptive": agclip.AdaptiveGradClip(unit_axes="out_in"),
    "autoclip": agclip.AutoClip(),
    "zclip": agclip.ZClip(),
    "adagc": agclip.AdaGC(),
    "spike": agclip.SpikeClip(),
    "quantile": agclip.QuantileClip(1.0),
    "chain": agclip.Chain([agclip.ClipByNorm(1.0), agclip.AdaGC()]),
    "per group": agclip.PerGroup({"*": agclip.SpikeClip()}),
    "scheduled": agclip.Scheduled(agclip.ClipByNorm, lambda step: 1.0),
}


class Pair(typing.NamedTuple):
    w: typing.Any
    b: typing.Any


class Alike:
    """A key that reads like every other of its class."""

    def __repr__(self):
        return "Alike"


class Named(enum.StrEnum):
    W = "w"


def paths(tree):
    """The paths of a tree, as a record has them."""
    rule = agclip.ClipByNorm(1.0)
    return list(rule.update(tree, rule.init(tree))[2].leaf_norms)


def x():
    return np.asarray([3.0, 4.0])


SPELLED = {
    "a flat dict": ({"layers.0.bias": x(), "w": x()}, ["layers.0.bias", "w"]),
    "nested": ({"layers": [{"bias": x()}], "w": x()}, ["layers.0.bias", "w"]),
    "numbers for keys": ({"layers": {0: {"bias": x()}, -1: x()}}, ["layers.0.bias", "layers.-1"]),
    "fields": (Pair({"a": x()}, x()), ["w.a", "b"]),
    "an array alone": (x(), [""]),
    "spaces and slashes": ({"linear/~/w b": x()}, ["linear/~/w b"]),
    "strings of a class of their own": ({Named.W: x()}, ["w"]),
    "other keys": ({None: x(), True: x(), (1, "a"): x()}, ["[None]", "[True]", "[(1, 'a')]"]),
    "brackets": ({"[w]": x(), "w": x()}, ["['[w]']", "w"]),
    "a dot in front": ({".w": x(), "w": x()}, ["['.w']", "w"]),
    "a dot at the end": ({"w.": {"b": x()}, "w": {"": x()}}, ["['w.'].b", "w.['']"]),
    "a dot that could be a step": ({"a.b": x(), "a": {"b": x()}}, ["['a.b']", "a.b"]),
    "a dot beside an empty place": ({"a.b": x(), "a": None}, ["['a.b']"]),
    "a number and its digits": ({0: x(), "0": x(), "0.w": x()}, ["[0]", "0", "['0.w']"]),
    "brackets in other keys": ({("[", "]"): x()}, ["[('(', ')')]"]),
    "keys that look alike": ({Alike(): x(), Alike(): x()}, ["[Alike]", "[Alike at 1]"]),
}


@pytest.mark.parametrize("case", SPELLED)
def test_a_path_has_one_spelling(case):
    tree, expected = SPELLED[case]
    assert paths(tree) == expected


@pytest.mark.parametrize(
    "keys", [(0, 1), ((0, 1), (1, 0)), (None, "w"), ("[w]", "w"), (".w", "w"), (0, "0"), (True, 0)]
)
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_takes_keys_of_any_kind(rule, keys):
    rule = RULES[rule]
    tree = {key: np.asarray([0.3, 0.4]) * (i + 1) for i, key in enumerate(keys)}
    state = rule.init(tree)
    for _ in range(2):
        clipped, state, info = rule.update(tree, state, tree)
    assert list(clipped) == list(keys)
    assert list(info.to_host().leaf_norms.values()) == pytest.approx([0.5, 1.0])
    assert json.loads(json.dumps(list(info.leaf_norms))) == list(info.leaf_norms)


def test_leaves_whose_dotted_keys_coincide_have_statistics_of_their_own():
    rule = agclip.AdaGC(warmup=1)
    tree = {"a.b": np.asarray([0.3, 0.4]), "a": {"b": np.asarray([0.03, 0.04])}}
    _, state, _ = rule.update(tree, rule.init(tree))
    averages = {path: float(value) for path, value in state["average"].items()}
    assert averages == pytest.approx({"['a.b']": 0.5, "a.b": 0.05})


def test_a_pattern_fits_a_key_with_dots_as_it_fits_nested_containers():
    rule = agclip.PerGroup({"layers.0.*": agclip.ClipByNorm(1.0), "*": None})
    flat, nested = {"layers.0.w": x(), "w": x()}, {"layers": [{"w": x()}], "w": x()}
    clipped, _, _ = rule.update(flat, rule.init(flat))
    assert clipped["layers.0.w"].tolist() == pytest.approx([0.6, 0.8])
    clipped, _, _ = rule.update(nested, rule.init(nested))
    assert clipped["layers"][0]["w"].tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.usefixtures("twice_named")
def test_names_of_a_registered_container_that_are_given_twice_are_told_apart():
    assert paths(Twin(x(), x())) == ["w", "['w' at 1]"]


class Twin:
    def __init__(self, left, right):
        self.left, self.right = left, right


@pytest.fixture
def twice_named(tmp_path):
    import arrays

    with arrays.registry(tmp_path) as lent:
        agclip.register_container(
            Twin,
            lambda twin: ((twin.left, twin.right), None, ("w", "w")),
            lambda _, new: Twin(*new),
        )
        yield lent


KEYS = st.one_of(
    st.sampled_from(["a", "b", "a.b", "a.b.a", ".a", "a.", "", "0", "[0]", "['a']", "[a", "b]"]),
    st.integers(-1, 2),
    st.sampled_from([None, (0,), ("a", "]"), 0.5, b"a"]),
)
NESTED = st.recursive(
    st.sampled_from([0.0, None]),
    lambda below: st.one_of(
        st.dictionaries(KEYS, below, min_size=1, max_size=4),
        st.lists(below, min_size=1, max_size=3),
    ),
    max_leaves=12,
)


def with_arrays(tree):
    """A tree with arrays for numbers, each of another norm; and what leads to each."""
    count = iter(range(1, 1000))

    def walk(node, steps):
        if isinstance(node, dict):
            return {key: walk(child, (*steps, key)) for key, child in node.items()}
        if isinstance(node, list):
            return [walk(child, (*steps, i)) for i, child in enumerate(node)]
        if node is None:
            return None
        places.append(steps)
        return np.asarray([float(next(count))])

    places = []
    return walk(tree, ()), places


@given(NESTED)
@settings(max_examples=200, deadline=None)
def test_no_two_leaves_have_one_path(nested):
    tree, places = with_arrays({"root": nested, "more": 0.0})
    assert len(set(paths(tree))) == len(places)


@given(NESTED, NESTED)
@settings(max_examples=100, deadline=None)
def test_a_path_does_not_depend_on_what_has_a_gradient_or_on_the_order_of_keys(one, other):
    whole, _ = with_arrays({"x": one, "x.y": other, "z": 0.0})
    fewer = {"z": whole["z"], "x.y": whole["x.y"], "x": None}
    known = dict(zip(paths(whole), norms(whole), strict=True))
    assert all(known[path] == norm for path, norm in zip(paths(fewer), norms(fewer), strict=True))


def norms(tree):
    rule = agclip.ClipByNorm(1.0)
    return list(rule.update(tree, ())[2].to_host().leaf_norms.values())


def test_an_ordered_dict_has_the_paths_of_a_dict():
    assert paths(collections.OrderedDict(w=x(), b=x())) == ["w", "b"]
