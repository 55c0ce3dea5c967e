"""Sums of examples in JAX, which are made of pieces: of any number, and with examples left over."""

import numpy as np
import pytest

import agclip


@pytest.fixture(scope="module")
def jnp(need_backend):
    need_backend("jax")
    return pytest.importorskip("jax.numpy")


@pytest.mark.parametrize("count", [1, 64, 65, 200])
def test_every_example_is_added_once(jnp, count):
    x = np.random.default_rng(count).standard_normal((count, 40, 900)).astype(np.float32)
    x *= np.linspace(0.001, 2.0, count, dtype=np.float32)[:, None, None]
    norms = np.sqrt((x.astype(np.float64) ** 2).sum((1, 2)))
    bound = float(np.median(norms)) * 1.01
    exact = (x.astype(np.float64) * np.minimum(1, bound / norms)[:, None, None]).sum(0)
    total, clipped = agclip.clip_per_example(jnp.asarray(x), bound)
    assert int(clipped) == (norms > bound).sum()
    room = np.maximum(np.spacing(np.abs(exact).astype(np.float32)), 1e-9)
    assert (np.abs(np.asarray(total) - exact) <= room).all()


def test_an_example_that_is_not_finite_counts_as_the_policy_says(jnp):
    x = np.ones((65, 1000), np.float32)
    x[64, 3] = np.nan
    assert np.isnan(agclip.clip_per_example(jnp.asarray(x), 100.0)[0]).all()
    total, bad = agclip.clip_per_example(jnp.asarray(x), 100.0, nonfinite="zero")
    assert np.asarray(total).tolist() == [64.0] * 1000
    assert int(bad) == 1


def test_so_do_complex_examples(jnp):
    x = (np.arange(130 * 400).reshape(130, 400) % 7 + 1j).astype(np.complex64)
    total, _ = agclip.clip_per_example(jnp.asarray(x), 1e6)
    assert np.allclose(total, x.sum(0), 1e-6)
