"""Models of Flax and Equinox: one compiled step, and the names that their own code would use."""

import pytest

pytest.importorskip("optax", reason="optax is not installed")

import jax
import jax.numpy as jnp
import optax

import agclip
from agclip.integrations.optax import as_gradient_transformation
from integrations.optax.combinators import described

X = jnp.linspace(-1.0, 1.0, 8)[:, None]
STEPS = 4


@pytest.fixture
def tx():
    """A rule that keeps a number for each leaf, before a step; Adam does not take None for 3."""
    clipping = as_gradient_transformation(agclip.AdaGC(warmup=2), leaf_norms=True)
    return optax.chain(clipping, optax.sgd(0.1))


def test_nnx(tx):
    nnx = pytest.importorskip("flax.nnx", reason="installed by `make test-all`")
    model = nnx.Sequential(nnx.Linear(1, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(1)))
    optimizer, traces = nnx.Optimizer(model, tx, wrt=nnx.Param), []

    @nnx.jit
    def step(model, optimizer):
        traces.append(1)
        optimizer.update(model, nnx.grad(lambda m: jnp.mean((m(X) - 3.0) ** 2))(model))

    paths = set(optimizer.opt_state[0].memory["average"])
    for _ in range(STEPS):
        step(model, optimizer)
    assert len(traces) == 1
    assert paths == {f"layers.{i}.{name}" for i in range(2) for name in ("bias", "kernel")}
    info = optimizer.opt_state[0].info
    assert set(info.leaf_norms) == paths
    assert float(info.norm[...]) > 0.0


def test_linen_with_partitioned_parameters(tx):
    nn = pytest.importorskip("flax.linen", reason="installed by `make test-all`")
    spread = nn.with_partitioning(nn.initializers.ones, (None, "model"))
    model = nn.Dense(1, kernel_init=spread)
    params = model.init(jax.random.key(0), X)
    state = tx.init(params)
    assert set(state[0].memory["average"]) == {"params.bias", "params.kernel"}
    grads = jax.grad(lambda p: jnp.mean((model.apply(p, X) - 3.0) ** 2))(params)
    updates, after = jax.jit(tx.update)(grads, state, params)
    assert described(after) == described(state)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


@pytest.mark.parametrize("kept", ["is_array", "is_inexact_array"])
def test_equinox(tx, kept):
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")

    class Model(eqx.Module):
        mlp: eqx.nn.MLP
        calls: jax.Array

        def __call__(self, x):
            return self.mlp(x)

    model = Model(eqx.nn.MLP(1, 1, 3, 1, key=jax.random.key(0)), jnp.asarray(3))
    state, traces = tx.init(eqx.filter(model, getattr(eqx, kept))), []
    before = described(state[0])

    @eqx.filter_jit
    def step(model, state):
        traces.append(1)
        grads = eqx.filter_grad(lambda m: jnp.mean((jax.vmap(m)(X) - 3.0) ** 2))(model)
        updates, state = tx.update(grads, state, eqx.filter(model, getattr(eqx, kept)))
        return eqx.apply_updates(model, updates), state

    for _ in range(STEPS):
        model, state = step(model, state)
    assert len(traces) == 1
    assert described(state[0]) == before
    names = {f"mlp.layers.{i}.{name}" for i in range(2) for name in ("bias", "weight")}
    assert set(state[0].memory["average"]) == names
    assert int(model.calls) == 3
