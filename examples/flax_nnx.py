"""Flax NNX: adaptive clipping of all layers but the last, by the names of the parameters.

python flax_nnx.py
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import agclip
from agclip.integrations.optax import as_gradient_transformation


class Net(nnx.Module):
    def __init__(self, rngs):
        self.body = nnx.Linear(8, 16, rngs=rngs)
        self.head = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.tanh(self.body(x)))


RULE = agclip.PerGroup(
    {
        "*head*": None,  # the paper leaves the last layer alone: Brock et al., 2021
        "*": agclip.AdaptiveGradClip(0.01, unit_axes="in_out"),  # Flax keeps (in, out)
    }
)


@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss


def main(steps=20):
    model = Net(nnx.Rngs(0))
    transformation = optax.chain(as_gradient_transformation(RULE), optax.adam(1e-2))
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    losses = []
    for key in jax.random.split(jax.random.key(0), steps):
        x = jax.random.normal(key, (64, 8))
        losses.append(float(train_step(model, optimizer, x, x.sum(axis=1, keepdims=True))))
    print(f"loss from {losses[0]:.2f} to {losses[-1]:.2f}")


if __name__ == "__main__":
    main()
