"""Norms of leaves, which a record makes when somebody looks: they read as a dict does."""

import copy
import gc
import importlib
import json
import pickle
import weakref
from collections import OrderedDict

import numpy as np
import pytest

import agclip
import arrays
from agclip._backends.lazy import LazyDict

LIBRARIES = ("numpy", "torch")
KEYS = ["b", "a", "c"]


@pytest.fixture(params=LIBRARIES)
def lib(request):
    return arrays.library(request.param)


def step(lib, kind=dict, **options):
    grads = kind((key, lib.array([3.0, 4.0 + i], "float32")) for i, key in enumerate(KEYS))
    return agclip.ClipByGlobalNorm(1.0, **options).update(grads, ())[2]


def as_floats(norms):
    return {key: float(norm) for key, norm in norms.items()}


WANTED = {key: float(np.float32(np.hypot(3.0, 4.0 + i))) for i, key in enumerate(KEYS)}

LOOKS = {
    "an item": lambda norms: {key: float(norms[key]) for key in KEYS},
    "items": as_floats,
    "an iteration": lambda norms: {key: float(norms[key]) for key in norms},
    "a dict of it": lambda norms: as_floats(dict(norms)),
    "unpacked": lambda norms: as_floats({**norms}),
    "as keywords": lambda norms: as_floats(_named(**norms)),
    "a copy": lambda norms: as_floats(copy.copy(norms)),
    "a deep copy": lambda norms: as_floats(copy.deepcopy(norms)),
    "a pickle": lambda norms: as_floats(pickle.loads(pickle.dumps(norms))),
    "joined": lambda norms: as_floats(norms | {}),
    "joined to another": lambda norms: as_floats({} | norms),
    "an update": lambda norms: as_floats(_updated(norms)),
    "by get": lambda norms: {key: float(norms.get(key)) for key in KEYS},
    "backwards": lambda norms: {key: float(norms[key]) for key in [*reversed(norms)][::-1]},
    "its length": lambda norms: WANTED if len(norms) == len(KEYS) else None,
    "its truth": lambda norms: WANTED if norms else None,
    "membership": lambda norms: WANTED if "a" in norms and "d" not in norms else None,
}


def _named(**norms):
    return norms


def _updated(norms):
    made = {}
    made.update(norms)
    return made


@pytest.fixture(params=list(LOOKS))
def look(request):
    return LOOKS[request.param]


def test_every_way_to_look_sees_the_norms(lib, look):
    found = look(step(lib).leaf_norms)
    assert found == WANTED
    assert list(found) == KEYS


def test_who_looks_again_sees_the_very_same_arrays(lib):
    norms = step(lib).leaf_norms
    assert all(norms[key] is norms[key] for key in KEYS)


def test_it_is_equal_to_the_dict_and_reads_as_it_does():
    norms = LazyDict(lambda: KEYS, lambda: [1, 2, 3])
    wanted = dict(zip(KEYS, (1, 2, 3), strict=True))
    assert repr(norms) == repr(wanted)
    assert norms == wanted
    assert wanted == norms
    assert norms == LazyDict(lambda: KEYS, lambda: [1, 2, 3])
    assert norms != {"a": 1}


def test_items_can_be_put_in_and_taken_out():
    norms = LazyDict(lambda: KEYS, lambda: [1, 2, 3])
    norms["d"] = 4
    del norms["a"]
    assert norms == {"b": 1, "c": 3, "d": 4}


def test_c_code_that_knows_dicts_alone_refuses_it_and_does_not_find_it_empty():
    with pytest.raises(TypeError, match="LazyDict"):
        json.dumps(LazyDict(lambda: ["a"], lambda: [1]))


PYTREES = {
    "jax": ("jax.tree_util", "tree_map", "tree_leaves", sorted),
    "optree": ("optree", "tree_map", "tree_leaves", sorted),
    "torch": ("torch.utils._pytree", "tree_map", "tree_leaves", list),
    "tensorflow": ("tensorflow", "nest.map_structure", "nest.flatten", sorted),
}


@pytest.fixture(params=list(PYTREES))
def pytree(request):
    """Return the functions that map over a tree and list its leaves, and the order of keys."""
    place, *names, order = PYTREES[request.param]
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    made = [importlib.import_module(place)] * 2
    for i, name in enumerate(names):
        for part in name.split("."):
            made[i] = getattr(made[i], part)
    return *made, order


def test_libraries_of_trees_take_it_for_the_dict(pytree):
    mapped, leaves, order = pytree
    info = step(arrays.library("numpy"))
    assert [float(x) for x in leaves(info.leaf_norms)] == [WANTED[key] for key in order(KEYS)]
    again = mapped(float, info)
    assert type(again) is agclip.ClipInfo
    assert again.leaf_norms == WANTED


def test_it_is_a_tree_of_agclip(lib):
    norms = step(lib).leaf_norms
    assert as_floats(agclip.clip_by_value(norms, 0.0, 1.0)) == dict.fromkeys(KEYS, 1.0)


class Layers(dict):
    """A dict of a class of its own."""


@pytest.mark.parametrize("kind", [dict, OrderedDict, Layers])
@pytest.mark.parametrize("nested", [False, True])
def test_a_record_holds_no_gradient(kind, nested):
    tensors = pytest.importorskip("torch", reason="torch is not installed")
    leaves = [tensors.ones(2) for _ in range(3)]
    grads = kind(zip(KEYS, leaves, strict=True))
    if nested:
        grads = kind(layer=grads)
    refs = [weakref.ref(leaf) for leaf in leaves]
    info = agclip.ClipByGlobalNorm(1.0).update(grads, ())[2]
    del leaves, grads
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3
    prefix = "layer." if nested else ""
    assert list(info.leaf_norms) == [prefix + key for key in KEYS]


def test_norms_of_scaled_gradients_are_of_what_they_are_divided_by(lib):
    norms = step(lib, loss_scale=4.0).leaf_norms
    assert as_floats(norms) == {key: value / 4 for key, value in WANTED.items()}


def test_norms_beyond_the_range_are_infinite_whatever_the_program_makes_of_overflows(lib):
    grads = [lib.array([3e38, 3e38], "float32"), lib.array([1e-30], "float32")]
    info = agclip.ClipByGlobalNorm(1.0).update(grads, ())[2]
    with np.errstate(all="raise"):
        assert list(as_floats(info.leaf_norms).values()) == [np.inf, float(np.float32(1e-30))]
