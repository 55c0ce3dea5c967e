"""The ways of optax and JAX to take steps of a transformation: each returns what comes of it.

Every way asserts what holds for all: it is compiled once, and the state keeps its structure, shapes
and dtypes from `init` on.
"""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest


def described(tree):
    """The structure of a tree, and what of its arrays a program is compiled for."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


def stepped(tx, params, trees, *, compiled=True, donated=False, between=lambda state: state):
    """Take a step at a time."""
    traces = []

    def update(updates, state, params):
        traces.append(1)
        return tx.update(updates, state, params)

    if compiled:
        update = jax.jit(update, donate_argnums=1 if donated else ())
    state, results = tx.init(params), []
    before = described(state)
    for tree in trees:
        new, state = update(tree, state, params)
        results.append(new)
        assert described(state) == before
        state = between(state)
    assert not compiled or len(traces) == 1
    return results


def scanned(tx, params, trees):
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    @jax.jit
    def run(stacked, params):
        def body(state, tree):
            new, state = tx.update(tree, state, params)
            return state, new

        return jax.lax.scan(body, tx.init(params), stacked)[1]

    results = run(stacked, params)
    return [jax.tree.map(lambda x, i=i: x[i], results) for i in range(len(trees))]


def mapped(tx, params, trees):
    """Take the steps of two models that are one array, the second one at rest."""

    def both(x):
        return jnp.stack([x, jnp.zeros_like(x)])

    init, update = jax.vmap(tx.init), jax.vmap(tx.update)
    two = optax.GradientTransformation(init, update)
    pairs = [jax.tree.map(both, tree) for tree in trees]
    results = stepped(two, jax.tree.map(both, params), pairs)
    assert not any(jnp.any(x[1]) for one in results for x in jax.tree.leaves(one))
    return [jax.tree.map(lambda x: x[0], one) for one in results]


def accumulated(tx, params, trees):
    """Take every step from two gradients whose mean is the one that is meant."""
    doubled = [jax.tree.map(lambda x, f=f: x * f, tree) for tree in trees for f in (0.5, 1.5)]
    steps = optax.MultiSteps(tx, every_k_schedule=2).gradient_transformation()
    results = stepped(steps, params, doubled)
    assert not any(jnp.any(x) for one in results[::2] for x in jax.tree.leaves(one))
    return results[1::2]


def beside(tx, params, trees):
    """Take steps of a transformation of a part, "net"; another part must stay as it is."""
    rest = {"rest": jnp.full(3, 50.0), "frozen": None}
    results = stepped(tx, {"net": params, **rest}, [{"net": tree, **rest} for tree in trees])
    for one in results:
        assert one["rest"].tolist() == [50.0] * 3
        assert one["frozen"] is None
    return [one["net"] for one in results]


def masked(tx, params, trees):
    def mask(tree):
        return {**jax.tree.map(lambda _: False, tree), "net": True}

    return beside(optax.masked(tx, mask), params, trees)


def masked_by_leaves(tx, params, trees):
    def mask(tree):
        return {**jax.tree.map(lambda _: False, tree), "net": jax.tree.map(lambda _: True, params)}

    return beside(optax.masked(tx, mask), params, trees)


def partitioned(combine, tx, params, trees):
    labels = {"net": "clipped", "rest": "kept", "frozen": "kept"}
    return beside(combine({"clipped": tx, "kept": optax.identity()}, labels), params, trees)


def injected(dtype, tx, params, trees):
    """Take steps of a rule beside a number that is injected."""

    def make(factor):
        return optax.chain(tx, optax.scale(factor))

    outer = optax.inject_hyperparams(make, hyperparam_dtype=dtype)(factor=1.0)
    return stepped(outer, params, trees)


def checkpointed(tx, params, trees, *, folder):
    """Save and restore the state after every step."""
    ocp = pytest.importorskip("orbax.checkpoint", reason="installed by `make test-all`")
    number = iter(range(100))
    with ocp.StandardCheckpointer() as checkpointer:

        def restored(state):
            path = folder / str(next(number))
            checkpointer.save(path, state)
            checkpointer.wait_until_finished()
            return checkpointer.restore(path, jax.tree.map(jnp.zeros_like, state))

        return stepped(tx, params, trees, between=restored)


WAYS = {
    "eager": functools.partial(stepped, compiled=False),
    "jit": stepped,
    "donated": functools.partial(stepped, donated=True),
    "scan": scanned,
    "vmap": mapped,
    "chain": lambda tx, *more: stepped(optax.chain(optax.identity(), tx, optax.scale(1.0)), *more),
    "named_chain": lambda tx, *more: stepped(optax.named_chain(("clip", tx)), *more),
    "masked": masked,
    "masked, leaf by leaf": masked_by_leaves,
    "partition": functools.partial(partitioned, optax.partition),
    "multi_transform": functools.partial(partitioned, optax.multi_transform),
    "inject_hyperparams": functools.partial(injected, jnp.float32),
    "inject_hyperparams, bfloat16": functools.partial(injected, jnp.bfloat16),
    "apply_if_finite": lambda tx, *more: stepped(optax.apply_if_finite(tx, 3), *more),
    "with_extra_args_support": lambda tx, *more: stepped(optax.with_extra_args_support(tx), *more),
    "conditionally_transform": lambda tx, *more: stepped(
        optax.conditionally_transform(tx, lambda step: step < 100), *more
    ),
    "conditionally_mask": lambda tx, *more: stepped(
        optax.conditionally_mask(tx, lambda step: step < 100), *more
    ),
    "MultiSteps": accumulated,
    "orbax": checkpointed,
}
