"""The transformations in a step that `pmap` runs once a device, on averaged gradients."""

import pytest

pytest.importorskip("optax", reason="optax is not installed")

import jax
import jax.numpy as jnp
import numpy as np
import optax

import agclip
import agclip.integrations.optax as ours

PARAMS = {"w": jnp.asarray([[[0.5, 0.0], [0.0, 2.0]]]), "b": jnp.asarray([[1.0, 1.0]])}
GRADS = {"w": jnp.asarray([[[3.0, 0.0], [1.0, 4.0]]]), "b": jnp.asarray([[0.0, 2.0]])}
BOUNDS = {
    "clip": 1.5,
    "clip_by_block_rms": 1.5,
    "clip_by_global_norm": 1.5,
    "adaptive_grad_clip": 0.5,
    "per_example_global_norm_clip": 1.5,
    "per_example_layer_norm_clip": 1.5,
}


def averaged(library, name):
    function = getattr(library, name)

    def step(grads, params):
        grads = jax.lax.pmean(grads, "batch")
        if name.startswith("per_example"):
            return function(jax.tree.leaves(grads), BOUNDS[name])
        tx = function(BOUNDS[name])
        return tx.update(grads, tx.init(params), params)[0]

    return jax.pmap(step, axis_name="batch")(GRADS, PARAMS)


@pytest.mark.parametrize("name", BOUNDS)
def test_averaged_gradients_are_clipped_as_by_optax(name):
    with agclip.config_context(on_shard="whole"):
        got = averaged(ours, name)
    wanted = jax.tree.leaves(averaged(optax, name))
    for one, other in zip(jax.tree.leaves(got), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(BOUNDS.keys() - {"clip"}))
def test_nobody_says_so_and_it_is_an_error(name):
    with pytest.raises(ValueError, match='set `on_shard` to "whole"'):
        averaged(ours, name)
