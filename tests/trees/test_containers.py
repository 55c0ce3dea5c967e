"""Containers of other libraries: opened if JAX or optree know them, else named with a way in."""

import dataclasses
import re
import typing

import numpy as np
import pytest

import agclip
import arrays

HALVED = [0.5, 0.5, 0.5, 0.5]


class Forwarding:
    """A container that looks like the array in it, as `flax.nnx.Param` does."""

    def __init__(self, value, label="mine"):
        self.value, self.label = value, label

    def __getattr__(self, name):
        if name.startswith("_") and name != "__array_namespace__":
            raise AttributeError(name)
        return getattr(self.value, name)

    shape = property(lambda self: self.value.shape)

    def __mul__(self, other):
        return self.value * other

    def __getitem__(self, key):
        return self.value[key]


class Empty:
    """A node of JAX that has no children."""


@pytest.fixture(scope="module")
def jax():
    found = pytest.importorskip("jax", reason="JAX is not installed")
    found.tree_util.register_pytree_with_keys(
        Forwarding,
        lambda x: (((found.tree_util.GetAttrKey("value"), x.value),), x.label),
        lambda label, new: Forwarding(*new, label),
    )
    found.tree_util.register_pytree_node(Empty, lambda _: ((), None), lambda *_: Empty())
    return found


@pytest.fixture
def registered(tmp_path):
    with arrays.registry(tmp_path) as lent:
        agclip.register_container(
            Forwarding,
            lambda x: ((x.value,), x.label, ("value",)),
            lambda label, new: Forwarding(*new, label),
        )
        yield lent


FUNCTIONS = {
    "value": lambda t: agclip.clip_by_value(t, -0.5, 0.5),
    "norm": lambda t: agclip.clip_by_norm(t, 1.0),
    "average norm": lambda t: agclip.clip_by_average_norm(t, 0.25),
    "rms": lambda t: agclip.clip_by_rms(t, 0.5),
    "global norm": lambda t: agclip.clip_by_global_norm(t, 1.0)[0],
    "adaptive": lambda t: agclip.adaptive_grad_clip(t, t, 0.5, unit_axes="out_in"),
    "rule": lambda t: agclip.ClipByNorm(1.0).update(t, ())[0],
    "rule with memory": lambda t: spiked(agclip.Clipper(agclip.AdaGC(absolute=1.0)), t),
}


def spiked(clipper, tree):
    return clipper(tree)[0]


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return FUNCTIONS[request.param]


@pytest.mark.parametrize("kind", ["jax", "numpy"])
def test_a_container_that_forwards_to_its_array_is_opened(jax, kind, function):
    ones = jax.numpy.ones(4) if kind == "jax" else np.ones(4)
    clipped = function({"w": Forwarding(ones)})["w"]
    assert (type(clipped), clipped.label) == (Forwarding, "mine")
    assert type(clipped.value) is type(ones)
    assert clipped.value.tolist() == HALVED


@pytest.mark.usefixtures("registered")
def test_a_registered_container_that_forwards_to_its_array_is_opened(function):
    clipped = function([Forwarding(np.ones(4)), None])[0]
    assert (type(clipped), clipped.value.tolist()) == (Forwarding, HALVED)


def test_a_container_that_forwards_is_opened_in_compiled_programs(jax):
    clip = jax.jit(lambda t: agclip.clip_by_global_norm(t, 1.0))
    clipped, norm = clip({"w": Forwarding(jax.numpy.ones(4))})
    assert (type(clipped["w"]), clipped["w"].value.tolist(), float(norm)) == (Forwarding, HALVED, 2)


def test_the_array_in_a_container_that_forwards_has_a_path(jax):
    with pytest.raises(TypeError, match=re.escape("got int32 at t['w'].value.")):
        agclip.clip_by_norm({"w": Forwarding(np.ones(4, dtype="int32"))}, 1.0)
    info = agclip.ClipByNorm(1.0).update({"w": Forwarding(np.ones(4))}, ())[2]
    assert list(info.leaf_norms) == ["w.value"]


def test_a_container_that_nobody_knows_is_no_array_of_the_library_it_forwards_to():
    class Unknown(Forwarding):
        pass

    with pytest.raises(TypeError, match=r"must hold arrays of a library .*\.Unknown at t\['w'\]"):
        agclip.clip_by_norm({"w": Unknown(np.ones(4))}, 1.0)


def test_a_node_of_jax_without_children_comes_back(jax):
    clipped = agclip.clip_by_norm({"w": np.ones(4), "state": Empty()}, 1.0)
    assert (clipped["w"].tolist(), type(clipped["state"])) == (HALVED, Empty)


# --- dataclasses, and what is like them --------------------------------------------------------


@dataclasses.dataclass
class Layer:
    w: typing.Any
    b: typing.Any


class Attribute(typing.NamedTuple):
    name: str


class LikeAttrs:
    """A class as attrs makes them: its fields are in an attribute of the class."""

    __attrs_attrs__ = (Attribute("w"),)

    def __init__(self, w):
        self.w = w


WAYS_IN = {
    "dataclass": (
        lambda: Layer(np.ones(4), np.ones(1)),
        (
            "got Layer at t[0]. Say which fields hold arrays: agclip.register_container(Layer, "
            "lambda x: ((x.w, x.b), None), lambda _, new: Layer(*new))."
        ),
    ),
    "attrs": (
        lambda: LikeAttrs(np.ones(4)),
        (
            "got LikeAttrs at t[0]. Say which fields hold arrays: agclip.register_container("
            "LikeAttrs, lambda x: ((x.w,), None), lambda _, new: LikeAttrs(*new))."
        ),
    ),
}


@pytest.mark.parametrize("kind", WAYS_IN)
def test_an_object_with_fields_is_named_with_a_way_in(kind):
    make, text = WAYS_IN[kind]
    with pytest.raises(TypeError, match=re.escape(text)):
        agclip.clip_by_norm([make()], 1.0)


@pytest.mark.parametrize("kind", WAYS_IN)
def test_the_way_in_is_one(kind, tmp_path):
    make, text = WAYS_IN[kind]
    line = text[text.index("agclip.register_container") :].removesuffix(".")
    with arrays.registry(tmp_path):
        eval(line, {"agclip": agclip, "Layer": Layer, "LikeAttrs": LikeAttrs})
        (clipped,) = agclip.clip_by_norm([make()], 1.0)
    assert (type(clipped), clipped.w.tolist()) == (type(make()), HALVED)


@pytest.mark.parametrize("found", [Layer, LikeAttrs])
def test_a_class_with_fields_is_no_container(found):
    with pytest.raises(TypeError, match=f"got the class {found.__name__} at t. Take it out"):
        agclip.clip_by_norm(found, 1.0)


# --- the libraries themselves, where they are installed ----------------------------------------


def test_gradients_of_flax_nnx():
    nnx = pytest.importorskip("flax.nnx", reason="installed by `make test-all`")
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    grads = nnx.grad(lambda m: m(jnp.ones((1, 2))).sum())(model)
    assert float(agclip.global_norm(grads)) == np.float32(3**0.5)
    clipped, _ = agclip.clip_by_global_norm(grads, 3**0.5 / 2)
    assert (type(clipped), type(clipped["kernel"])) == (type(grads), type(grads["kernel"]))
    assert clipped["kernel"][...].ravel().tolist() == pytest.approx([0.5, 0.5])
    params = nnx.state(model, nnx.Param)
    assert type(agclip.adaptive_grad_clip(grads, params, unit_axes="in_out")) is type(grads)
    assert type(agclip.clip_by_norm(model, 1.0)) is type(model)


def test_a_dataclass_of_flax():
    struct = pytest.importorskip("flax.struct", reason="installed by `make test-all`")
    cls = struct.dataclass(type("Params", (), {"__annotations__": {"w": "Any", "b": "Any"}}))
    clipped = agclip.clip_by_norm(cls(np.ones(4), None), 1.0)
    assert (type(clipped), clipped.w.tolist(), clipped.b) == (cls, HALVED, None)


def test_gradients_of_equinox():
    equinox = pytest.importorskip("equinox", reason="equinox is not installed")
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    model = equinox.nn.MLP(2, 1, 4, 1, key=jax.random.key(0))
    grads = equinox.filter_grad(lambda m: m(jax.numpy.ones(2)).sum())(model)
    leaves = jax.tree.leaves(grads)
    expected = np.sqrt(sum(float((leaf.astype("float32") ** 2).sum()) for leaf in leaves))
    clipped, norm = agclip.clip_by_global_norm(grads, 1e-3)
    assert float(norm) == pytest.approx(expected, rel=1e-6)
    assert type(clipped) is type(grads)
    assert type(agclip.adaptive_grad_clip(grads, model, unit_axes="out_in")) is type(grads)


def test_a_dataclass_of_chex():
    chex = pytest.importorskip("chex", reason="installed by `make test-all`")
    cls = chex.dataclass(dataclasses.make_dataclass("Params", ["w", "b"]))
    clipped = agclip.clip_by_norm(cls(w=np.ones(4), b=None), 1.0)
    assert (type(clipped), clipped.w.tolist()) == (cls, HALVED)


def test_an_output_of_transformers():
    utils = pytest.importorskip("transformers.utils", reason="transformers is not installed")
    cls = dataclasses.dataclass(
        type("Output", (utils.ModelOutput,), {"__annotations__": {"w": "A"}, "w": None})
    )
    given = cls(w=np.ones(4))
    clipped = agclip.clip_by_norm(given, 1.0)
    assert (type(clipped), clipped.w.tolist(), clipped["w"].tolist()) == (cls, HALVED, HALVED)
    assert given.w.tolist() == [1.0, 1.0, 1.0, 1.0]


def test_an_object_of_attrs_is_named_with_a_way_in():
    attrs = pytest.importorskip("attrs", reason="attrs is not installed")
    cls = attrs.make_class("Params", ["w", "b"])
    text = "agclip.register_container(Params, lambda x: ((x.w, x.b), None), "
    with pytest.raises(TypeError, match=re.escape(text)):
        agclip.clip_by_norm(cls(np.ones(4), None), 1.0)
