"""A program on four devices for `test_jax_shards`: it prints what every case gives, as JSON."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax_ranks
from jax.sharding import NamedSharding, PartitionSpec

import agclip


def _update(rule: Any) -> Callable[[Any], Any]:
    def clipped(v: Any) -> Any:
        tree = {"w": v}
        return rule.update(tree, rule.init(tree))[0]["w"]

    return clipped


REFUSED: dict[str, Callable[[Any], Any]] = {
    "norm along axes": lambda v: agclip.clip_by_norm(v, 1.0, axes=0),
    "adaptive": lambda v: agclip.adaptive_grad_clip({"w": v}, {"w": v}, unit_axes="out_in")["w"],
    "per example": lambda v: v + agclip.clip_per_example(v, 1.0)[0],
}
OF_UNKNOWN_SIZE: dict[str, Callable[[Any], Any]] = {
    "average norm": lambda v: agclip.clip_by_average_norm(v, 1.0),
    "rms": lambda v: agclip.clip_by_rms(v, 1.0),
}
REDUCED: dict[str, Callable[[Any], Any]] = {
    "norm": lambda v: agclip.clip_by_norm(v, 1.0),
    "global norm": lambda v: agclip.clip_by_global_norm({"w": v}, 1.0)[0]["w"],
    "global norm alone": lambda v: v / 16 * agclip.global_norm({"w": v}),
    "rule of the global norm": _update(agclip.ClipByGlobalNorm(1.0)),
    "rule with memory": _update(agclip.ZClip(max_norm=1.0)),
    "rule of each leaf": _update(agclip.AdaGC()),
}
"""Where types tell along which axes shards differ the norm is that of all shards."""


def _given(v: Any) -> Any:
    norm = jnp.sqrt(jax.lax.psum(jnp.sum(v * v), "x"))
    return agclip.clip_by_global_norm([v], 1.0, use_norm=norm)[0][0]


SERVED: dict[str, Callable[[Any], Any]] = {
    "value": lambda v: agclip.clip_by_value(v, -1.0, 0.5),
    "given norm": _given,
}
WHOLE: dict[str, Callable[[Any], Any]] = {
    "equal on all shards": lambda v: agclip.clip_by_norm(jax.lax.pmean(v, "x"), 1.0) + 0 * v,
    "whole in every shard": lambda v: agclip.clip_by_norm(jnp.full(1, 2.0), 1.0) + 0 * v,
}


def _sharded(function: Callable[[Any], Any], **options: Any) -> Callable[[Any], Any]:
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("x")
    return jax.shard_map(function, mesh=mesh, in_specs=(spec,), out_specs=spec, **options)


TYPED: dict[str, Callable[[Callable[[Any], Any]], Callable[[Any], Any]]] = {
    "shard_map": lambda f: jax.jit(_sharded(f)),
    "shard_map without jit": _sharded,
    "jit in shard_map": lambda f: _sharded(jax.jit(f)),
}
WAYS = {
    **TYPED,
    "shard_map without types": lambda f: jax.jit(_sharded(f, check_vma=False)),
    "pmap": lambda f: lambda v: jax.pmap(f, axis_name="x")(v.reshape(4, 1)).ravel(),
}


def _result(function: Callable[[Any], Any], v: Any) -> Any:
    try:
        return function(v).tolist()
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return f"{type(error).__name__}: {error}".partition("\n---")[0]


def main() -> None:
    """Print the results of all cases."""
    v = jnp.full(4, 2.0)
    found = {}
    cases = {**REFUSED, **OF_UNKNOWN_SIZE, **REDUCED, **SERVED}
    for way, wrap in WAYS.items():
        for case, function in (cases | (WHOLE if way in TYPED else {})).items():
            found[f"{case}, {way}"] = _result(wrap(function), v)
    for case, function in cases.items():
        if case != "given norm":
            found[f"{case}, alone"] = _result(function, v[:1])
            for way, wrap in WAYS.items():
                # A function of its own: JAX keeps what it has traced under the other setting.
                another = functools.partial(function)
                with agclip.config_context(on_shard="whole"):
                    found[f"{case}, {way}, whole"] = _result(wrap(another), v)
    rows = jax.vmap(lambda row: agclip.clip_by_norm(row, 1.0), axis_name="x")(v.reshape(4, 1))
    found["vmap with a name"] = rows.ravel().tolist()
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(v, NamedSharding(mesh, PartitionSpec("x")))
    clipped = jax.jit(lambda x: agclip.clip_by_norm(x, 1.0))(spread)
    found["jit of a sharded array"] = clipped.tolist()
    found |= jax_ranks.results(_result)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
