"""The same gradients in each library, every contender with memory of its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import torch

from bench.workloads import Gradients


def numpy_copies(gradients: Gradients) -> Gradients:
    """Return NumPy arrays."""
    return [leaf.copy() for leaf in gradients]


def torch_copies(gradients: Gradients) -> list[torch.Tensor]:
    """Return tensors in memory that PyTorch has allocated, aligned as it likes."""
    return [torch.from_numpy(leaf).clone() for leaf in gradients]


def jax_copies(gradients: Gradients) -> list[jax.Array]:
    """Return JAX arrays."""
    return [jnp.array(leaf) for leaf in gradients]
