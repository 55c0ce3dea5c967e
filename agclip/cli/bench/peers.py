"""What else clips a global norm in each library, for `agclip bench`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import agclip

Shapes = Sequence[tuple[int, ...]]
Call = Callable[[], object]

PEERED = ("numpy", "torch", "jax", "cupy")
"""The backends that are timed when none is named: a lazy library has other worries."""

SHRINK = 0.9999
"""Factor on the bound from one in-place call to the next, so that each of them has to clip."""


class Contest(NamedTuple):
    """Two ways to clip the same gradients."""

    peer: str
    """What agclip is compared with."""
    ours: Call
    theirs: Call


def contest(name: str, shapes: Shapes, clip_norm: float) -> Contest:
    """Return agclip and its peer in a library, on gradients of their own.

    Args:
        name: A backend that can be used.
        shapes: The shapes of the gradients: float32, every entry one.
        clip_norm: The bound, below their norm.
    """
    make = {"torch": _torch, "jax": _jax}.get(name, _by_hand)
    return make(agclip.get_backend(name), shapes, clip_norm)


def _by_hand(backend: agclip.Backend, shapes: Shapes, clip_norm: float) -> Contest:
    """Compare with the few lines that everyone writes."""
    xp = backend.xp
    grads = [xp.ones(shape, dtype=xp.float32) for shape in shapes]

    def theirs() -> object:
        norm = math.sqrt(sum(float(xp.sum(g * g)) for g in grads))
        scale = min(1.0, clip_norm / norm)
        return _computed([g * scale for g in grads])

    def ours() -> object:
        return _computed(agclip.clip_by_global_norm(grads, clip_norm)[0])

    return Contest("sqrt(sum(g * g)) and g * scale", ours, theirs)


def _computed(arrays: Sequence[Any]) -> object:
    return [array.compute() for array in arrays if hasattr(array, "compute")]


def _torch(_: agclip.Backend, shapes: Shapes, clip_norm: float) -> Contest:
    import torch

    grads = [torch.ones(shape) for shape in shapes]
    params = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for param in params:
        param.grad = torch.ones_like(param)
    bounds = {"ours": clip_norm, "theirs": clip_norm}

    def ours() -> object:
        bounds["ours"] *= SHRINK
        return agclip.clip_by_global_norm_(grads, bounds["ours"])

    def theirs() -> object:
        bounds["theirs"] *= SHRINK
        return torch.nn.utils.clip_grad_norm_(params, bounds["theirs"])

    return Contest("torch.nn.utils.clip_grad_norm_", ours, theirs)


def _jax(backend: agclip.Backend, shapes: Shapes, clip_norm: float) -> Contest:
    import jax

    try:
        import optax
    except ImportError:
        return _by_hand(backend, shapes, clip_norm)
    grads = [jax.numpy.ones(shape, dtype=jax.numpy.float32) for shape in shapes]
    optimizer = optax.clip_by_global_norm(clip_norm)
    state = optimizer.init(grads)
    our_jit = jax.jit(lambda tree: agclip.clip_by_global_norm(tree, clip_norm)[0])
    their_jit = jax.jit(lambda tree: optimizer.update(tree, state)[0])
    return Contest(
        "optax.clip_by_global_norm, both under jit",
        lambda: [array.block_until_ready() for array in our_jit(grads)],
        lambda: [array.block_until_ready() for array in their_jit(grads)],
    )
