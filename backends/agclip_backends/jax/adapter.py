"""JAX: every call is one compiled program, with float64 inside whatever the global flag says."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from agclip.adapters import Access, Backend, Link, Op, Parts
from agclip_backends._probe import kept
from agclip_backends.jax import namespace, places, sparse, xla


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(program: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Any:
    return program(*static, *arrays)


def _context() -> Any:
    return jax.enable_x64(True)


def _run(program: Callable[..., Any], static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Any:
    with _context():
        if _traced(arrays) and not places.sized(_leaves(arrays)):
            # What the program is told of sizes is a part of the trace, and keys no cache.
            return program(*static, *arrays)
        return _compiled(program, static, arrays)


def _traced(arrays: Any) -> bool:
    """Tell whether an array of a call is traced."""
    traced, nested = _among(frozenset(map(type, arrays)))
    if traced or not nested:
        return traced
    return any(_traced(part) for part in arrays if isinstance(part, (tuple, list)))


@functools.lru_cache(maxsize=256)
def _among(types: frozenset[type]) -> tuple[bool, bool]:
    """Tell whether classes of traced arrays are among some, and those of tuples and lists."""
    return (
        any(issubclass(one, Tracer) for one in types),
        any(issubclass(one, (tuple, list)) for one in types),
    )


def _leaves(arrays: Any) -> Iterator[Any]:
    """Yield the arrays of a call one by one."""
    if isinstance(arrays, (tuple, list)):
        for one in arrays:
            yield from _leaves(one)
    elif isinstance(arrays, jax.Array):
        yield arrays


def _branch(
    _: Any,
    predicate: Any,
    if_true: Callable[[], Sequence[Any]],
    if_false: Callable[[], Sequence[Any]],
) -> Sequence[Any]:
    kept = if_false()
    if any(x.ndim for x in kept):
        # Leaves as results of a conditional would be copied before it; a selection is one pass.
        return xla.Choice(predicate).of(if_true, kept)
    results: Sequence[Any] = jax.lax.cond(predicate, lambda: list(if_true()), lambda: list(kept))
    return results


def _access(x: Any) -> Access:
    if isinstance(x, Tracer):
        return "never"
    # What is no jax.Array is the derivative by an integer, which holds nothing.
    return _access_to(x.sharding) if isinstance(x, jax.Array) else "graph"


@functools.lru_cache(maxsize=256)
def _access_to(sharding: Any) -> Access:
    on_cpu = all(device.platform == "cpu" for device in sharding.device_set)
    return "graph" if on_cpu and sharding.is_fully_addressable else "sync"


def _refuse(x: Any) -> str | None:
    # The derivative by an integer is an array of another class, and of a dtype without bytes.
    known = isinstance(x, jax.Array) or x.dtype == jax.dtypes.float0
    return None if known else sparse.refuse(x) or "is no jax.Array"


def _axes() -> tuple[str, ...]:
    """Return the axes of the mesh over which one program runs by shards; none outside of that."""
    axes: tuple[str, ...] = jax.sharding.get_abstract_mesh().manual_axes
    return axes


def _told(axes: tuple[str, ...]) -> bool:
    """Tell whether types say along which axes shards differ: the place of a shard is one that does.

    They do not under `check_vma=False`, and in `pmap`.
    """
    return bool(_varying(jax.lax.axis_index(axes[0])))


def _parts(leaves: Sequence[Any], _: set[type]) -> Parts | None:
    axes = _axes()
    if not axes or not _told(axes):
        return None
    cuts: list[tuple[Link | str, ...]] = []
    unsure = None
    for i, leaf in enumerate(leaves):
        found = _varying(leaf) if isinstance(leaf, Tracer) else frozenset[str]()
        cuts.append(tuple(name for name in axes if name in found))
        # By name: the class is not public (JAX 0.10).
        if found and type(leaf).__name__ == "BatchTracer" and unsure is None:
            # An axis of a batch: its examples may be whole, each in one of the shards.
            unsure = i, "is mapped by vmap inside of shard_map"
    return Parts(list(leaves), cuts, axes=axes, unsure=unsure)


def _all_reduce(_: Any, values: Sequence[Any], axes: tuple[str, ...], op: Op) -> Sequence[Any]:
    for name in axes:
        try:
            jax.lax.axis_index(name)
        except NameError:
            msg = f"`comm` must name axes that are bound here; got {name!r}."
            raise ValueError(msg) from None
    reduce: Any = jax.lax.psum if op == "sum" else jax.lax.pmax
    found: Sequence[Any] = reduce(tuple(values), axes)
    return found


def _partial(leaves: Sequence[Any]) -> tuple[int, str] | None:
    axes = _axes()
    if not axes:
        return None
    told = _told(axes)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tracer):
            found = sorted(_varying(leaf)) if told else axes
            if found:
                names = ", ".join(map(repr, found))
                return i, f"is a shard (inside of shard_map or pmap, along {names})"
    return None


def _varying(x: Any) -> frozenset[str]:
    """Return the axes of a mesh along which shards may differ, if the type of an array tells."""
    kind = jax.typeof(x)
    found = getattr(kind, "manual_axis_type", None)  # JAX 0.8 has its `vma` alone
    varying: frozenset[str] = kind.vma if found is None else found.varying | found.unreduced
    return varying


def _named_device(_: Any, name: str) -> Any:
    """Return the device of a name such as "cpu" or "gpu:1"."""
    platform, _, index = name.partition(":")
    try:
        devices = jax.local_devices(backend=platform)
    except RuntimeError:
        return None
    return {str(i): device for i, device in enumerate(devices)}.get(index or "0")


@kept
def _usable() -> str | None:
    try:
        with jax.ensure_compile_time_eval():  # whoever asks may be in a function that is traced
            jnp.ones(2).block_until_ready()
    except RuntimeError as error:
        return str(error)
    return None


backend = Backend(
    name="jax",
    xp=namespace,
    sum_squares=xla.sum_squares,
    abs_max=xla.abs_max,
    total=xla.total,
    sums=xla.sums,
    scale=xla.scale,
    rows=xla.rows,
    branch=_branch,
    access=_access,
    sparse=sparse.stored,
    refuse=_refuse,
    unwritable=lambda _: "is immutable",
    partial=_partial,
    parts=_parts,
    all_reduce=_all_reduce,
    usable=_usable,
    device=lambda _: None,
    named_device=_named_device,
    acc_dtype=lambda _, __: jnp.float64,
    export=lambda x: x,
    context=_context,
    run=_run,
)
