"""Complex entries in host memory: each part is multiplied by the factor, whatever does it."""

import itertools
import math

import numpy as np
import pytest

import agclip
import hosts

pytest_plugins = ["host_fixtures"]

SIGNS = [complex(a, b) for a, b in itertools.product((0.0, -0.0, 1.0, -1.0), repeat=2)]
"""Entries of which the norm is 4."""
ODD = [complex(math.inf, 0), complex(-0.0, -math.inf), complex(math.nan, 1), complex(-0.0, 2)]


def plain(host, x):
    return host.copy(x)


def spread(host, x):
    leaf = host.copy(np.stack([x, x], axis=-1))[..., 0]
    assert not hosts.compiled([leaf])
    return leaf


def conjugate(host, x):
    return host.copy(x.conj()).conj()


def recorded(host, x):
    if host.library == "numpy":
        pytest.skip("NumPy records no derivatives")
    return host.copy(x).requires_grad_().clone()


LAYOUTS = {f.__name__: f for f in (plain, spread, conjugate, recorded)}


@pytest.fixture(params=LAYOUTS)
def made(request):
    """A function that makes an array of a library from one of NumPy."""
    return LAYOUTS[request.param]


@pytest.fixture(params=hosts.COMPLEX)
def dtype(request):
    return request.param


def entries(host, x):
    """Return an array as plain memory of NumPy."""
    x = x.detach().resolve_conj().resolve_neg() if host.library == "torch" else x
    return host.entries(x)


def pair(function):
    """Return a function on one leaf and on two, for libraries take lists at once."""
    return {"one leaf": function, "two leaves": lambda x, *rest: function([x, x * 0], *rest)[0]}


CLIPS = pair(agclip.clip_by_norm) | {
    "in place": agclip.clip_by_norm_,
    "two leaves in place": lambda x, c: agclip.clip_by_global_norm_([x, x * 0], c)[0][0],
    "global": lambda x, c: agclip.clip_by_global_norm([x], c)[0][0],
    "along axes": lambda x, c: agclip.clip_by_norm(x, c, axes=(0,)),
    "along axes in place": lambda x, c: agclip.clip_by_norm_(x, c, axes=(0,)),
    "reproducible": lambda x, c: agclip.clip_by_global_norm([x], c, reproducible=True)[0][0],
}


@pytest.mark.parametrize("clip", CLIPS.values(), ids=map(hosts.kebab, CLIPS))
def test_zeros_keep_their_signs(host, made, dtype, clip):
    x = np.array(SIGNS, dtype)
    got = clip(made(host, x), 1.0)
    assert hosts.bits(entries(host, got)) == hosts.bits(hosts.scaled(x, 0.25))


@pytest.mark.parametrize("inplace", [False, True], ids=["functional", "in-place"])
def test_an_infinity_beside_a_zero_is_divided_by_itself(host, made, dtype, inplace):
    clip = agclip.clip_by_global_norm_ if inplace else agclip.clip_by_global_norm
    x = np.array(ODD, dtype)
    (got,), _ = clip([made(host, x)], math.inf, loss_scale=4.0, nonfinite="skip")
    assert hosts.bits(entries(host, got)) == hosts.bits(hosts.scaled(x, 0.25))


def test_a_scalar_of_numpy_keeps_the_sign_of_a_zero(accelerate, dtype):
    got = agclip.clip_by_norm(np.dtype(dtype).type(complex(-0.0, 4)), 1.0)
    assert hosts.bits(np.asarray(got)) == hosts.bits(np.array(complex(-0.0, 1), dtype))


def test_swapped_bytes_keep_the_signs_of_zeros(accelerate, dtype):
    x = np.array(SIGNS, dtype)
    got = agclip.clip_by_norm(x.astype(x.dtype.newbyteorder()), 1.0)
    assert hosts.bits(got.astype(dtype)) == hosts.bits(hosts.scaled(x, 0.25))


def test_a_negative_view_is_worked_on_as_what_it_means(accelerate, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.array([complex(-0.0, 3), complex(4, -0.0)], dtype)
    got = agclip.clip_by_norm(torch._neg_view(torch.from_numpy(-x)), 2.5)
    assert hosts.bits(got.resolve_neg().numpy()) == hosts.bits(hosts.scaled(x, 0.5))


NEGATIVE = {
    "one number": lambda torch, z: z[:1].conj().imag,
    "with gaps": lambda torch, z: z.conj().imag,
    "without gaps": lambda torch, z: z.conj().imag.as_strided((2 * len(z),), (1,), 0),
}
"""Real views that PyTorch negates, of complex numbers."""
CLIPS = {
    "norm": lambda x: agclip.clip_by_global_norm([x], 1.0)[0][0],
    "each norm": lambda x: agclip.clip_by_norm([x], 1.0)[0],
    "value": lambda x: agclip.clip_by_value([x], -0.5, 2.0)[0],
    "norm_": lambda x: agclip.clip_by_global_norm_([x], 1.0)[0][0],
    "each norm_": lambda x: agclip.clip_by_norm_([x], 1.0)[0],
    "value_": lambda x: agclip.clip_by_value_([x], -0.5, 2.0)[0],
}


@pytest.mark.parametrize("view", NEGATIVE)
@pytest.mark.parametrize("clip", CLIPS)
def test_a_real_view_that_negates_keeps_its_signs(accelerate, view, clip):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    z = torch.tensor([3 - 4j, -1 + 2j], dtype=torch.complex64)
    x = NEGATIVE[view](torch, z)
    assert x.is_neg()
    values = x.resolve_neg().numpy().astype(np.float64)
    norm = max(1.0, np.linalg.norm(values))
    expected = np.clip(values, -0.5, 2.0) if clip.startswith("value") else values / norm
    got = CLIPS[clip](x)
    assert np.allclose(got.resolve_neg().numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_spike_is_cut_at_the_correctly_rounded_root(host, dtype):
    rule = agclip.SpikeClip(threshold=1.75, decay=0.5, warmup=1)
    x = np.abs(hosts.drawn(dtype, 5000)) + np.finfo(dtype).tiny
    _, state, _ = rule.update([host.copy(x)], rule.init([host.copy(x)]))
    (moment,) = (host.entries(v) for v in state["second_moment"].values())
    (got,), _, _ = rule.update([host.copy(x * 64)], state)
    roots = [math.sqrt(bound) for bound in (moment * x.dtype.type(1.75)).tolist()]
    assert hosts.bits(host.entries(got)) == hosts.bits(np.array(roots).astype(dtype))
