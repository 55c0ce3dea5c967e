"""Norms over the axes of a mesh, on four devices: what `jax_shards` prints besides its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import agclip

P = PartitionSpec
V, R = np.arange(1.0, 9.0, dtype=np.float32), np.array([2.0, 2.0], np.float32)


def _mesh(*names: str) -> Any:
    shape = (4,) if len(names) == 1 else (2, 2)
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names))


def _mapped(function: Any, ins: Any, outs: Any, *names: str, **options: Any) -> Any:
    mesh = _mesh(*(names or ("d",)))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=ins, out_specs=outs, **options))


def _norm(*orders: Any, **options: Any) -> Any:
    def both(a: Any, b: Any) -> Any:
        return jnp.stack([agclip.global_norm([a, b], p, **options) for p in orders])

    return both


def _untyped(function: Any) -> Any:
    return _mapped(function, (P("d"), P()), P(), check_vma=False)(V, R)


def _step(a: Any) -> Any:
    rule = agclip.ZClip()
    new, state, info = rule.update([a], rule.init([a]))
    return new[0], state["mean"], info.norm


def _loss(v: Any) -> Any:
    def part(a: Any) -> Any:
        return jnp.sum(agclip.clip_by_global_norm([a], 1.0)[0][0] * jnp.arange(1.0, 3.0))[None]

    return _mapped(part, (P("d"),), P("d"))(v).sum()


def _whole_loss(v: Any) -> Any:
    weights = jnp.tile(jnp.arange(1.0, 3.0), 4)
    return jnp.sum(agclip.clip_by_global_norm([v], 1.0)[0][0] * weights)


def _all_reduces(lowered: Any) -> list[str]:
    """Return the types of what is reduced in a program."""
    return re.findall(r"= (.+) all-reduce\(", lowered.compile().as_text())


def _hundred() -> Any:
    function = _mapped(
        lambda *t: agclip.clip_by_global_norm(list(t), 1.0), (P("d"),) * 100, ([P("d")] * 100, P())
    )
    return np.array(_all_reduces(function.lower(*[V] * 100)))


def _global() -> Any:
    spread = [jax.device_put(V, NamedSharding(_mesh("d"), P("d")))] * 5
    function = jax.jit(lambda t: agclip.clip_by_global_norm(t, 1.0))
    return np.array([len(_all_reduces(function.lower(spread)))])


CASES: dict[str, Callable[[], Any]] = {
    "types, orders": lambda: _mapped(_norm(1, 2, 3, "inf"), (P("d"), P()), P())(V, R),
    "types, reproducible": lambda: _mapped(_norm(1, 2, reproducible=True), (P("d"), P()), P())(
        V, R
    ),
    "types, and a name": lambda: _mapped(_norm(2, comm="d"), (P("d"), P()), P())(V, R),
    "no types, a name": lambda: _untyped(_norm(2, comm="d", replicas={"1": 4})),
    "no types, the others count": lambda: _untyped(_norm(2, comm="d", replicas={"1": 0})),
    "pmap": lambda: jax.pmap(lambda a: agclip.global_norm([a], comm="d"), axis_name="d")(
        V.reshape(4, 2)
    ),
    "two axes": lambda: _mapped(
        lambda a, b, c: agclip.global_norm([a, b, c]), (P("x", "y"), P("y"), P()), P(), "x", "y"
    )(V.reshape(2, 4), V, R),
    "a rule": lambda: jnp.stack(_mapped(_step, (P("d"),), (P("d"), P(), P()))(V)[1:]),
    "derivatives": lambda: jax.grad(_loss)(V),
    "what is reduced of 100 leaves": _hundred,
    "what is reduced of global arrays": _global,
    "vmap": lambda: _mapped(jax.vmap(lambda g: agclip.global_norm([g])), (P("d"),), P("d"))(
        V.reshape(8, 1)
    ),
    "vmap, each by itself": lambda: _mapped(
        jax.vmap(lambda g: agclip.global_norm([g], comm=())), (P("d"),), P("d")
    )(V.reshape(8, 1)),
    "an axis that is not bound": lambda: _mapped(_norm(2, comm="q"), (P("d"), P()), P())(V, R),
    "an axis that is not bound, no types": lambda: _untyped(_norm(2, comm="q")),
    "an axis outside": lambda: agclip.global_norm([jnp.asarray(V)], comm="q"),
    "a communicator outside": lambda: agclip.clip_by_global_norm(
        [jnp.asarray(V)], 1.0, comm=lambda vector, _: vector
    )[1],
    "a communicator in a program": lambda: jax.jit(
        lambda v: agclip.global_norm([v], comm=lambda vector, _: vector)
    )(V),
}


def results(result: Callable[[Callable[[Any], Any], Any], Any]) -> dict[str, Any]:
    """Return what every case gives, and what the same of whole arrays is."""
    found = {f"ranks: {name}": result(lambda _, c=case: c(), None) for name, case in CASES.items()}
    found["whole: derivatives"] = jax.grad(_whole_loss)(V).tolist()
    return found
