"""The same gradients in each library, every contender with memory of its own, and the way back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from numpy.typing import NDArray

from bench.workloads import Gradients


def numpy_copies(gradients: Gradients) -> Gradients:
    """Return NumPy arrays."""
    return [leaf.copy() for leaf in gradients]


def torch_copies(gradients: Gradients) -> list[torch.Tensor]:
    """Return tensors in memory that PyTorch has allocated, aligned as it likes."""
    return [_as_tensor(leaf).clone() for leaf in gradients]


def jax_copies(gradients: Gradients) -> list[jax.Array]:
    """Return JAX arrays."""
    return [jnp.array(leaf) for leaf in gradients]


def layers(leaves: list[Any]) -> dict[str, Any]:
    """Return the leaves as most models hold them: dicts of bias and weight, by layer."""
    pairs = [leaves[i : i + 2] for i in range(0, len(leaves), 2)]
    return {
        f"layer{i:04}": dict(zip(("bias", "weight"), pair, strict=False))
        for i, pair in enumerate(pairs)
    }


def as_numpy(leaf: Any) -> NDArray[Any]:
    """Return a leaf of any library as a NumPy array: in host memory, the same memory."""
    if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bfloat16:
        return leaf.view(torch.int16).numpy().view("bfloat16")
    return np.asarray(leaf)


def _as_tensor(leaf: NDArray[Any]) -> torch.Tensor:
    if leaf.dtype.name == "bfloat16":  # unknown to from_numpy
        return torch.from_numpy(leaf.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(leaf)
