"""Small steps of training whose clip can be exchanged: each tells what the clip in it took."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

import agclip
from agclip.cli.demo.rnn import Params, init_params
from agclip.cli.demo.text import python_help
from agclip.cli.demo.train import BATCH, GAIN, HIDDEN, WINDOW, descend
from agclip.integrations import torch as drop_in

Step: TypeAlias = Callable[[], tuple[float, float]]
"""`()` → the seconds of a step, and of the clip in it."""

BOUND = 1e-3
"""Every step clips."""
_WIDTHS = (784, 1024, 1024, 10)
_ROWS = 128


def _torch_step(model: torch.nn.Module, rows: torch.Tensor, clip: Callable[..., Any]) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, foreach=True)

    def step() -> tuple[float, float]:
        begin = time.perf_counter()
        optimizer.zero_grad()
        model(rows).square().mean().backward()
        before = time.perf_counter()
        clip(model.parameters(), BOUND)
        after = time.perf_counter()
        optimizer.step()
        return time.perf_counter() - begin, after - before

    return step


def _own_threads(parameters: Iterable[torch.Tensor], bound: float) -> Any:
    with agclip.config_context(threads="own"):
        return drop_in.clip_grad_norm_(parameters, bound)


def _torch_steps(model: Callable[[], torch.nn.Module], rows: torch.Tensor) -> dict[str, Step]:
    clips = {
        "torch": torch.nn.utils.clip_grad_norm_,
        "agclip": drop_in.clip_grad_norm_,
        "agclip, own threads": _own_threads,
    }
    return {name: _torch_step(model(), rows, clip) for name, clip in clips.items()}


def mlp() -> dict[str, Step]:
    """Return steps of a network of three layers with 1.9 M parameters, in PyTorch."""

    def model() -> torch.nn.Module:
        layers: list[torch.nn.Module] = []
        for before, after in itertools.pairwise(_WIDTHS):
            layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    return _torch_steps(model, torch.randn(_ROWS, _WIDTHS[0]))


def transformer() -> dict[str, Step]:
    """Return steps of a block of a transformer with 7.1 M parameters, in PyTorch."""
    width = 768

    def model() -> torch.nn.Module:
        return torch.nn.TransformerEncoderLayer(width, 12, 4 * width, 0.0, batch_first=True)

    return _torch_steps(model, torch.randn(4, 64, width))


def recurrent() -> dict[str, Step]:
    """Return steps of the demo's network, in NumPy."""
    corpus = python_help()

    def loop(grads: Params, _: Params) -> tuple[Params, Any]:
        leaves, structure = jax.tree.flatten(grads)
        norm = np.sqrt(sum((leaf * leaf).sum() for leaf in leaves))
        clipped = [leaf * (BOUND / norm) for leaf in leaves] if norm > BOUND else leaves
        return jax.tree.unflatten(structure, clipped), norm

    def ours(grads: Params, _: Params) -> tuple[Params, Any]:
        clipped: tuple[Params, Any] = agclip.clip_by_global_norm(grads, BOUND)
        return clipped

    def step_with(clip: Callable[[Params, Params], tuple[Params, Any]]) -> Step:
        rng, seconds = Random(0), [0.0]
        state = [init_params(np, rng, len(corpus.alphabet), HIDDEN, GAIN)]

        def timed(grads: Params, params: Params) -> tuple[Params, Any]:
            begin = time.perf_counter()
            clipped = clip(grads, params)
            seconds[0] = time.perf_counter() - begin
            return clipped

        def step() -> tuple[float, float]:
            codes = corpus.windows(rng, WINDOW + 1, BATCH)
            begin = time.perf_counter()
            state[0], _ = descend(np, state[0], codes, timed)
            return time.perf_counter() - begin, seconds[0]

        return step

    return {"numpy-loop": step_with(loop), "agclip": step_with(ours)}


def compiled() -> dict[str, Step]:
    """Return steps of the same network as `mlp`, in a `jit` of JAX's.

    What happens within a compiled step cannot be timed: the clip's time is what it adds to a step
    without one, taken just before.
    """
    key = jax.random.key(0)
    rows = jax.random.normal(key, (_ROWS, _WIDTHS[0]))
    pairs = list(itertools.pairwise(_WIDTHS))
    first = [jax.random.normal(key, pair) * 0.03 for pair in pairs]

    def loss(weights: Any) -> Any:
        x = rows
        for weight in weights:
            x = jnp.maximum(x @ weight, 0.0)
        return (x * x).mean()

    def program(clip: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def step(weights: Any) -> Any:
            clipped = clip(jax.grad(loss)(weights))
            return [w - 1e-3 * g for w, g in zip(weights, clipped, strict=True)]

        return jax.jit(step)

    plain = program(lambda grads: grads)

    def step_with(clip: Callable[[Any], Any]) -> Step:
        clipping, state = program(clip), [first]

        def timed(step: Callable[[Any], Any]) -> float:
            begin = time.perf_counter()
            state[0] = jax.block_until_ready(step(state[0]))
            return time.perf_counter() - begin

        def step() -> tuple[float, float]:
            without = timed(plain)
            whole = timed(clipping)
            return whole, whole - without

        return step

    theirs = optax.clip_by_global_norm(BOUND)
    return {
        "optax": step_with(lambda grads: theirs.update(grads, optax.EmptyState())[0]),
        "agclip": step_with(lambda grads: agclip.clip_by_global_norm(grads, BOUND)[0]),
    }


STEPS: dict[str, Callable[[], dict[str, Step]]] = {
    "an MLP, 1.9 M, PyTorch": mlp,
    "a transformer block, 7.1 M, PyTorch": transformer,
    "the demo's network, 0.04 M, NumPy": recurrent,
    "an MLP, 1.9 M, JAX": compiled,
}
