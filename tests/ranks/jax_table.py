"""The table of cases on four devices of JAX, in `shard_map`: it prints what each shard gets.

All rows are one program, by types and by the name of the axis: rows are compiled together.
"""

import json
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import agclip

SHARDS = 4
NAN, INF = float("nan"), float("inf")
PAIR = {"x": ([3.0, 4.0, 0.0, 0.0], "float64")}


def leaf(numbers, dtype="float64"):
    return {"x": (numbers, dtype)}


def clip(bound, **options):
    return lambda grads, **o: agclip.clip_by_global_norm(grads, bound, **options, **o)


def norm(order=2, **options):
    return lambda grads, **o: ([], agclip.global_norm(grads, order, **options, **o))


SIGNED = leaf([1.0, -2.0, 2.0, 0.0])
MIXED = {"a": ([3.0, 0, 0, 0], "bfloat16"), "b": ([0, 4.0, 0, 0], "float64")}
COMPLEX = {"a": ([2.0, 0, 0, 0], "float32"), "b": ([0, 3 + 4j, 0, 0], "complex128")}
ROWS = {
    "two numbers": (PAIR, clip(1.0)),
    "two larger numbers": (leaf([6.0, 8.0, 0, 0]), clip(5.0)),
    "two numbers, within": (PAIR, clip(6.0)),
    "two numbers, reproducible": (PAIR, clip(1.0, reproducible=True)),
    "a loss scale": (leaf([6.0, 8.0, 0, 0]), clip(1.0, loss_scale=2.0)),
    "four shards": (leaf([1.0, 2.0, 2.0, 4.0]), norm()),
    "order 1": (SIGNED, norm(1)),
    "order 3": (SIGNED, norm(3)),
    "order inf": (SIGNED, norm("inf")),
    "beyond the square root": (leaf([1e300, 1e300, 0, 0]), norm()),
    "beyond the range": (leaf([1.7e308, 1.7e308, 0, 0]), clip(1.0)),
    "ordinary and large": (leaf([3.0, 1e300, 0, 0]), norm()),
    "small": (leaf([3e-200, 4e-200, 0, 0]), norm()),
    "an infinity and a NaN": (leaf([INF, NAN, 0, 0]), clip(1.0)),
    "an infinity and a NaN, order 3": (leaf([INF, NAN, 0, 0]), norm(3)),
    "an infinity and a NaN, order inf": (leaf([INF, NAN, 0, 0]), norm("inf")),
    "an infinity and a NaN, reproducible": (leaf([INF, NAN, 0, 0]), norm(reproducible=True)),
    "an infinity and a number": (leaf([INF, 2.0, 0, 0]), clip(1.0)),
    "a NaN, zero": (leaf([1.0, NAN, 0, 0]), clip(1.0, nonfinite="zero")),
    "a NaN, skip": (leaf([3.0, NAN, 0, 0]), clip(1.0, nonfinite="skip")),
    "dtypes": (MIXED, norm()),
    "a complex leaf": (COMPLEX, norm()),
    "a complex leaf, order 1": (COMPLEX, norm(1)),
    "a complex leaf, order inf": (COMPLEX, norm("inf")),
}


def on_shards(mesh, *, typed):
    """Return of each row the clipped numbers of all shards, the norm of each, and its dtype."""
    grads = {
        row: {key: jnp.asarray(values, dtype) for key, (values, dtype) in leaves.items()}
        for row, (leaves, _) in ROWS.items()
    }

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=P("d"),
        out_specs=P("d"),
        **({} if typed else {"check_vma": False}),
    )
    def program(trees):
        found = {}
        for row, tree in trees.items():
            new, value = ROWS[row][1](tree, **({} if typed else {"comm": "d"}))
            found[row] = new, jnp.reshape(value, (1,))
        return found

    found = jax.jit(program)(grads)
    return {
        row: [
            [np.asarray(one).tolist() for one in jax.tree.leaves(new)],
            np.asarray(value).tolist(),
            str(value.dtype),
        ]
        for row, (new, value) in found.items()
    }


def replicated(mesh):
    """Return norms of leaves of which one is in every shard, named and by `replicas`."""

    def run(replicas):
        def program(x, held):
            value = agclip.global_norm({"x": x, "R": held}, comm="d", replicas=replicas)
            return jnp.reshape(value, (1,))

        mapped = jax.shard_map(
            program, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"), check_vma=False
        )
        return np.asarray(jax.jit(mapped)(jnp.asarray([1.0, 2, 0, 4]), jnp.asarray([2.0]))).tolist()

    return [run({"R": SHARDS}), run(None)]


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    mesh = Mesh(np.array(jax.devices()), ("d",))
    made = {"types": on_shards(mesh, typed=True), "a name": on_shards(mesh, typed=False)}
    sys.stdout.write(json.dumps({**made, "replicated": replicated(mesh)}))
