"""JAX and optax: a rule with a memory as a link of a chain, in one compiled step.

python jax_optax.py
"""

import jax
import jax.numpy as jnp
import optax

import agclip
from agclip.integrations.optax import as_gradient_transformation


def loss_of(params, x, y):
    hidden = jnp.tanh(x @ params["w1"])
    return jnp.mean((hidden @ params["w2"] - y) ** 2)


def main(steps=30):
    keys = jax.random.split(jax.random.key(0), steps + 2)
    params = {
        "w1": jax.random.normal(keys[-1], (8, 16)) / 3,
        "w2": jax.random.normal(keys[-2], (16, 1)) / 4,
    }
    clip = as_gradient_transformation(agclip.ZClip(warmup=5, max_norm=None))
    optimizer = optax.chain(clip, optax.adam(1e-2))  # the clip comes first

    @jax.jit
    def train_step(params, state, x, y):
        grads = jax.grad(loss_of)(params, x, y)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for step in range(steps):
        x = jax.random.normal(keys[step], (64, 8))
        y = x.sum(axis=1, keepdims=True) * (100.0 if step == 20 else 1.0)  # one bad batch
        params, state = train_step(params, state, x, y)
        norm, scale = optax.tree.get(state, "norm"), optax.tree.get(state, "scale")
        if scale < 1:
            print(f"step {step}: norm {norm:.3g} cut to {norm * scale:.3g}")
    print(f"compiled {train_step._cache_size()} time")


if __name__ == "__main__":
    main()
