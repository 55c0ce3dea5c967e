"""Parameters are paired with gradients by key: libraries sort the keys of a dict, or do not."""

import collections
import re

import numpy as np
import pytest

import agclip
import arrays

TWICE_THE_BOUND = {"a": [2.0, 4.0], "b": [20.0, 40.0]}
WEIGHTS = {"b": [10.0, 20.0], "a": [1.0, 2.0]}
# Units of one number each: every gradient is clipped to a hundredth of its parameter.
BOUNDED = {"a": [0.01, 0.02], "b": [0.1, 0.2]}

WAYS = {
    "function": lambda g, p: agclip.adaptive_grad_clip(g, p, 0.01, unit_axes=()),
    "in place": lambda g, p: agclip.adaptive_grad_clip_(g, p, 0.01, unit_axes=()),
    "rule": lambda g, p: agclip.AdaptiveGradClip(0.01, unit_axes=()).update(g, (), p)[0],
    "clipper": lambda g, p: agclip.Clipper(agclip.AdaptiveGradClip(0.01, unit_axes=()))(g, p)[0],
    "group": lambda g, p: grouped().update(g, grouped().init(p), p)[0],
    "chain": lambda g, p: chained().update(g, chained().init(p), p)[0],
}


def grouped():
    return agclip.PerGroup({"*": agclip.AdaptiveGradClip(0.01, unit_axes=())})


def chained():
    return agclip.Chain([agclip.AdaptiveGradClip(0.01, unit_axes=())])


@pytest.fixture(params=WAYS, ids=lambda name: name.replace(" ", "-"))
def clip(request):
    return WAYS[request.param]


@pytest.fixture(params=arrays.WRITABLE)
def lib(request):
    return arrays.library(request.param)


def tree_of(lib, values, kind=dict):
    return kind((key, lib.array(value, "float64")) for key, value in values.items())


def entries_of(lib, tree):
    return {key: lib.entries(leaf).tolist() for key, leaf in tree.items()}


def test_parameters_in_another_order_belong_to_the_same_keys(lib, clip):
    clipped = clip(tree_of(lib, TWICE_THE_BOUND), tree_of(lib, WEIGHTS))
    assert list(clipped) == ["a", "b"]
    assert entries_of(lib, clipped) == {key: pytest.approx(BOUNDED[key]) for key in BOUNDED}


def test_the_order_and_the_container_of_the_gradients_come_out(clip):
    lib = arrays.library("numpy")
    grads = collections.OrderedDict(reversed(tree_of(lib, TWICE_THE_BOUND).items()))
    clipped = clip(grads, tree_of(lib, TWICE_THE_BOUND))
    assert (type(clipped), list(clipped)) == (collections.OrderedDict, ["b", "a"])


def test_nested_keys_are_paired_too():
    grads = {"x": [{"a": np.ones(1), "b": np.ones(1)}], "y": None}
    params = {"y": np.ones(3), "x": [{"b": np.full(1, 20.0), "a": np.full(1, 10.0)}]}
    clipped = agclip.adaptive_grad_clip(grads, params, unit_axes="out_in")
    assert [leaf.tolist() for leaf in clipped["x"][0].values()] == [[0.1], [0.2]]


def test_shapes_are_compared_by_key_too():
    grads = {"a": np.ones(2), "b": np.ones(3)}
    with pytest.raises(
        ValueError, match=re.escape("got (2,) at params['b'] and (3,) at grads['b']")
    ):
        agclip.adaptive_grad_clip(grads, {"b": np.ones(2), "a": np.ones(2)}, unit_axes="out_in")


def test_a_dict_and_a_sequence_are_not_paired():
    with pytest.raises(ValueError, match="must have the structure of `grads`"):
        agclip.adaptive_grad_clip([np.ones(2)], {0: np.ones(2)}, unit_axes="out_in")


def test_the_gradients_that_jax_gives_are_paired_with_its_parameters():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    params = {"w": jax.numpy.full(2, 10.0), "b": jax.numpy.full(2, 1.0)}
    grads = jax.grad(lambda p: (p["w"] * 100 + p["b"] * 100).sum())(params)
    clipped = agclip.adaptive_grad_clip(grads, params, unit_axes=())
    assert list(clipped) == list(grads)
    assert {key: leaf.tolist() for key, leaf in clipped.items()} == {
        "b": pytest.approx([0.01, 0.01]),
        "w": pytest.approx([0.1, 0.1]),
    }
