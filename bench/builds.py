"""From a function of leaves and a bound to the call that is timed: arrays of its own, no arguments.

The functions of JAX are waited for: its arrays are promises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import torch

from bench.arrays import jax_copies, torch_copies
from bench.bounds import Bounds
from bench.contests import Build, Clip, Leaves
from bench.workloads import Gradients

Copies = Callable[[Gradients], list[Any]]
Function = Callable[[Any, float], Any]
Pass = Callable[[torch.Tensor, float], torch.Tensor]


def overwriting(copies: Copies, clip: Function) -> Build:
    """Call `clip(leaves, bound)`, which overwrites the leaves."""

    def build(gradients: Gradients, bounds: Bounds) -> Clip:
        grads = bounds.overwriting(copies(gradients), gradients)

        def call() -> Leaves:
            clip(grads, bounds())
            return grads

        return call

    return build


def overwriting_grads(clip: Function, container: Callable[[Any], Any] = list) -> Build:
    """Call `clip(parameters, bound)`, which overwrites the gradients of PyTorch parameters."""

    def build(gradients: Gradients, bounds: Bounds) -> Clip:
        grads = bounds.overwriting(torch_copies(gradients), gradients)
        parameters = container([torch.nn.Parameter(torch.empty_like(grad)) for grad in grads])
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad

        def call() -> Leaves:
            clip(parameters, bounds())
            return grads

        return call

    return build


def returning(copies: Copies, clip: Function) -> Build:
    """Call `clip(leaves, bound)`, which returns new leaves."""

    def build(gradients: Gradients, bounds: Bounds) -> Clip:
        grads = copies(gradients)
        return lambda: clip(grads, bounds())

    return build


def returning_jax(clip: Function) -> Build:
    """Call `clip(leaves, bound)` of JAX arrays, eagerly."""
    return returning(jax_copies, lambda grads, bound: jax.block_until_ready(clip(grads, bound)))


def compiled(clip: Function) -> Build:
    """Call `clip(leaves, bound)` of JAX arrays within a `jit` of the caller's."""

    def build(gradients: Gradients, bounds: Bounds) -> Clip:
        grads = jax_copies(gradients)
        program = jax.jit(lambda leaves: clip(leaves, bounds.first))
        return lambda: jax.block_until_ready(program(grads))

    return build


def passes(*functions: Pass) -> Build:
    """Call functions of one tensor of as many bytes, and the bound: the least there is to do."""

    def build(gradients: Gradients, bounds: Bounds) -> Clip:
        flat = torch.ones(sum(leaf.nbytes for leaf in gradients) // 4)
        return lambda: [function(flat, bounds.first) for function in functions]

    return build


def read(flat: torch.Tensor, _: float) -> torch.Tensor:
    """Read all memory once."""
    return flat.sum()


def scale_(flat: torch.Tensor, _: float) -> torch.Tensor:
    """Read and write all memory once."""
    return flat.mul_(1.0)


def scale(flat: torch.Tensor, _: float) -> torch.Tensor:
    """Read all memory once, and write as much new memory."""
    return flat.mul(1.0)
