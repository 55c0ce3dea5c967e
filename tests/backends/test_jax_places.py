"""JAX: what decides over the form of a reduction is where arrays are, never what JAX's default is.

A process may have several platforms: arrays on the CPU beside a GPU that is the default, or the
reverse. No test needs another device: a program can be lowered for a platform that is not here.
"""

import itertools
import math

import numpy as np
import pytest

import agclip
from thinned import thinned

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = jax.numpy

CALLS = {
    "global norm": agclip.global_norm,
    "largest entry": lambda grads: agclip.global_norm(grads, math.inf),
    "norm of order 3": lambda grads: agclip.global_norm(grads, 3),
    "reproducible": lambda grads: agclip.global_norm(grads, reproducible=True),
    "clip": lambda grads: agclip.clip_by_global_norm(grads, 1.0),
    "clip each": lambda grads: agclip.clip_by_norm(grads, 1.0),
}


def dashed(name):
    return name.replace(" ", "-")


@pytest.fixture(params=CALLS, ids=dashed)
def call(request):
    return CALLS[request.param]


@pytest.fixture(autouse=True)
def _traced_anew():
    jax.clear_caches()  # a program that has been traced is not traced again
    yield
    jax.clear_caches()


def leaves():
    rng = np.random.default_rng(0)
    shapes = [(7,), (7,), (9, 4), (40_000,)]
    return [jnp.asarray(rng.standard_normal(shape), dtype=jnp.float32) for shape in shapes]


def lowered(call, *platforms):
    """Return the text of a program as it goes to the compiler of each platform."""
    traced = jax.jit(call).trace(leaves())
    return [traced.lower(lowering_platforms=(name,)).as_text() for name in platforms]


def reshaped(text):
    """Tell whether leaves are stacked or folded in a program."""
    return "optimization_barrier" in text or "concatenate" in text


@pytest.fixture
def another_default(monkeypatch):
    """JAX as on a machine with eight GPUs, which also has its CPU."""
    count = jax.device_count
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "device_count", lambda *given: count(*given) if given else 8)


def test_a_program_for_another_platform_keeps_its_leaves_as_they_are(call):
    elsewhere = ("cuda", "rocm", "tpu")
    found = dict(zip((*elsewhere, "cpu"), lowered(call, *elsewhere, "cpu"), strict=True))
    assert [name for name, text in found.items() if reshaped(text)] == ["cpu"]


@pytest.mark.usefixtures("another_default")
def test_a_program_for_the_cpu_reshapes_them_whatever_the_default_is(call):
    assert all(map(reshaped, lowered(call, "cpu")))


@pytest.mark.usefixtures("another_default")
@pytest.mark.parametrize(
    "name", thinned(CALLS, keep=("norm of order 3", "reproducible", "clip"), ids=dashed)
)
def test_results_do_not_depend_on_the_default(name, monkeypatch):
    call = CALLS[name]
    given = jax.tree.leaves(call(leaves()))
    monkeypatch.undo()
    jax.clear_caches()
    wanted = jax.tree.leaves(call(leaves()))
    assert [np.asarray(x).tobytes() for x in given] == [np.asarray(x).tobytes() for x in wanted]


def several(*given):
    assert given == ("cpu",)
    return 2


def none(*_):
    msg = "Unknown backend cpu"
    raise RuntimeError(msg)


COUNTS = {"several": several, "none": none}
OFTEN = [("clip", "several"), ("reproducible", "several"), ("clip each", "none")]


@pytest.mark.parametrize(
    ("name", "count"),
    thinned(
        itertools.product(CALLS, COUNTS),
        OFTEN,
        ids=lambda cell: dashed("-".join(cell)),
        tuples=True,
    ),
)
def test_leaves_stay_as_they_are_where_they_may_be_spread_or_no_cpu_is(name, count, monkeypatch):
    call, count = CALLS[name], COUNTS[count]
    wanted = jax.tree.leaves(call(leaves()))
    monkeypatch.setattr(jax, "device_count", count)
    jax.clear_caches()
    assert not any(map(reshaped, lowered(call, "cpu")))
    given = jax.tree.leaves(call(leaves()))
    for one, other in zip(given, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=2.0**-22)


@pytest.mark.parametrize("name", thinned(CALLS, keep=("clip each",), ids=dashed))
def test_the_derivative_is_that_of_either_form(name, monkeypatch):
    call = CALLS[name]

    def total(grads):
        return sum(jnp.sum(x) for x in jax.tree.leaves(call(grads)))

    given = jax.grad(total)(leaves())
    monkeypatch.setattr(jax, "device_count", several)
    jax.clear_caches()
    for one, other in zip(given, jax.grad(total)(leaves()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["clip", "clip each"])
def test_arrays_on_a_named_device_stay_there(name):
    cpu = jax.local_devices(backend="cpu")[0]
    placed = [jax.device_put(x, cpu) for x in leaves()]
    clipped = jax.tree.leaves(CALLS[name](placed))
    assert {device for x in clipped for device in x.devices()} == {cpu}
