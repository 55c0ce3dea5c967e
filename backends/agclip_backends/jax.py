"""JAX: every call is one compiled program, with float64 inside whatever the global flag says."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from agclip import Backend
from agclip._typing import Access


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(program: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Any:
    return program(*static, *arrays)


def _context() -> Any:
    return jax.enable_x64(True)


def _run(program: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Any:
    with _context():
        return _compiled(program, static, arrays)


def _branch(
    _: Any,
    predicate: Any,
    if_true: Callable[[], Sequence[Any]],
    if_false: Callable[[], Sequence[Any]],
) -> Sequence[Any]:
    results: Sequence[Any] = jax.lax.cond(
        predicate, lambda: list(if_true()), lambda: list(if_false())
    )
    return results


def _access(x: Any) -> Access:
    if isinstance(x, jax.core.Tracer):
        return "never"
    on_cpu = all(device.platform == "cpu" for device in x.devices())
    return "graph" if on_cpu and x.is_fully_addressable else "sync"


def _refuse(x: Any) -> str | None:
    return None if isinstance(x, jax.Array) else "is no jax.Array"


def _named_device(_: Any, name: str) -> Any:
    """Return the device of a name such as "cpu" or "gpu:1"."""
    platform, _, index = name.partition(":")
    try:
        devices = jax.local_devices(backend=platform)
    except RuntimeError:
        return None
    return {str(i): device for i, device in enumerate(devices)}.get(index or "0")


@functools.cache
def _usable() -> str | None:
    try:
        jnp.ones(2).block_until_ready()
    except RuntimeError as error:
        return str(error)
    return None


backend = Backend(
    name="jax",
    xp=jnp,
    branch=_branch,
    access=_access,
    refuse=_refuse,
    unwritable=lambda _: "is immutable",
    usable=_usable,
    device=lambda _: None,
    named_device=_named_device,
    wide=lambda _, __: jnp.float64,
    export=lambda x: x,
    context=_context,
    run=_run,
)
