"""Leaves that are not like the others and no mistake: float0 of JAX, scalars of NumPy."""

import math

import numpy as np
import pytest

import agclip
import arrays

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = jax.numpy

FUNCTIONS = {
    "value": lambda t: agclip.clip_by_value(t, -0.5, 0.5),
    "norm": lambda t: agclip.clip_by_norm(t, 1.0),
    "rms": lambda t: agclip.clip_by_rms(t, 0.5),
    "global norm": lambda t: agclip.clip_by_global_norm(t, 1.0)[0],
    "adaptive": lambda t: agclip.adaptive_grad_clip(t, params(t), 0.5, unit_axes="out_in"),
    "rule": lambda t: agclip.ClipByGlobalNorm(1.0).update(t, ())[0],
    "rule with memory": lambda t: agclip.Clipper(agclip.AdaGC())(t)[0],
    "spikes": lambda t: {
        **t,
        "w": FUNCTIONS["norm"](agclip.Clipper(agclip.SpikeClip())(t)[0])["w"],
    },
}


def params(tree):
    return {"w": jnp.ones(4), "steps": np.arange(3)}


def loss(p):
    return p["w"].sum() + 0.0 * p["steps"].sum()


def by_jax():
    given = {"w": jnp.zeros(4), "steps": jnp.arange(3)}
    return jax.grad(loss, allow_int=True)(given)


def by_hand():
    return {"steps": np.zeros(3, dtype=jax.dtypes.float0), "w": jnp.ones(4)}


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return FUNCTIONS[request.param]


@pytest.fixture(params=[by_jax, by_hand])
def grads(request):
    return request.param()


def test_derivatives_by_integers_keep_their_places(grads, function):
    clipped = function(grads)
    assert clipped["steps"] is grads["steps"]
    assert clipped["w"].tolist() == [0.5, 0.5, 0.5, 0.5]


def test_derivatives_by_integers_are_left_out_of_the_norm(grads):
    assert float(agclip.global_norm(grads)) == 2.0
    info = agclip.ClipByNorm(1.0).update(grads, ())[2]
    assert list(info.leaf_norms) == ["w"]


def test_derivatives_by_integers_pass_through_compiled_programs(grads):
    clipped, norm = jax.jit(lambda t: agclip.clip_by_global_norm(t, 1.0))(grads)
    assert (clipped["w"].tolist(), float(norm)) == ([0.5] * 4, 2.0)
    assert clipped["steps"].dtype == jax.dtypes.float0


def test_gradients_within_a_compiled_program_may_be_by_integers():
    given = {"w": jnp.zeros(4), "steps": jnp.arange(3)}
    norm = jax.jit(lambda p: agclip.global_norm(jax.grad(loss, allow_int=True)(p)))(given)
    assert float(norm) == 2.0


@pytest.mark.parametrize("make", [by_jax, by_hand])
def test_nothing_but_derivatives_by_integers_is_an_empty_tree(make):
    tree = {"steps": make()["steps"]}
    with pytest.warns(UserWarning, match="holds no array"):
        clipped = agclip.clip_by_norm(tree, 1.0)
    assert clipped["steps"] is tree["steps"]


def test_derivatives_by_integers_come_back_from_a_library_that_is_configured(project):
    agclip.set_config(backend="numpy", on_foreign="convert")
    tree = by_hand()
    clipped = agclip.clip_by_norm(tree, 1.0)
    assert (clipped["steps"] is tree["steps"], clipped["w"].tolist()) == (True, [0.5] * 4)


def test_parameters_whose_gradient_is_an_array_must_be_numbers():
    with pytest.raises(TypeError, match=r"`params` must hold arrays wherever `grads` does"):
        agclip.adaptive_grad_clip(
            {"w": np.ones(2)}, {"w": np.zeros(2, dtype=jax.dtypes.float0)}, unit_axes="out_in"
        )


SCALARS = [np.float32(3.0), np.float64(3.0), np.float16(3.0), np.complex64(3.0)]


@pytest.fixture(params=["jax", "torch", "dask", "array_api_strict"])
def lib(request):
    return arrays.library(request.param)


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda x: x.dtype.name)
def test_a_scalar_of_numpy_is_a_number_in_a_tree_of_another_library(lib, scalar):
    if lib.name in ("array_api_strict", "dask") and scalar.dtype == np.float16:
        pytest.skip("the namespace of the standard has no float16")
    tree = {"s": scalar, "w": lib.array([4.0])}
    clipped, norm = agclip.clip_by_global_norm(tree, 1.0)
    assert type(clipped["s"]) is type(clipped["w"])
    assert (lib.entries(clipped["s"]).dtype, lib.entries(clipped["s"]).shape) == (scalar.dtype, ())
    assert complex(lib.entries(clipped["s"])) == pytest.approx(0.6, rel=1e-3)
    assert math.isclose(float(lib.entries(norm)), 5.0)


def test_a_scalar_of_numpy_is_a_number_beside_traced_arrays():
    clip = jax.jit(lambda w: agclip.clip_by_global_norm([np.float32(3.0), w], 1.0))
    clipped, norm = clip(jnp.asarray(4.0))
    assert [float(leaf) for leaf in clipped] == pytest.approx([0.6, 0.8])
    assert float(norm) == 5.0


def test_an_integer_scalar_of_numpy_is_named_as_one():
    with pytest.raises(TypeError, match=r"got int32 at t\[1\]"):
        agclip.clip_by_norm([jnp.ones(2), np.int32(3)], 1.0)


def test_an_array_of_numpy_is_still_of_another_library():
    with pytest.raises(TypeError, match=r"got jax at t\[0\] and numpy at t\[1\]"):
        agclip.clip_by_norm([jnp.ones(2), np.ones(2), np.float32(3.0)], 1.0)


def test_a_scalar_of_numpy_cannot_be_written_in_a_tree_of_another_library():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.ones(2)
    with pytest.raises(TypeError, match=r"got Python numbers at t\[1\]"):
        agclip.clip_by_norm_([x, np.float32(3.0)], 1.0)
    assert x.tolist() == [1.0, 1.0]
