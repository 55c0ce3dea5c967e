"""What the checks of `bench.gpu.ranks` share: gradients, how calls are made, and comparisons."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

OPTIONS: dict[str, dict[str, Any]] = {
    "order 2": {},
    "order 1": {"ord": 1},
    "order 3": {"ord": 3},
    "order inf": {"ord": "inf"},
    "strict": {"strict": True},
    "skip": {"nonfinite": "skip"},
    "reproducible": {"reproducible": True},
}


def vectors_of(option: str, dtypes: Sequence[str]) -> int:
    """Return how many vectors a norm takes; one of narrow leaves is as reproducible as it is."""
    return 2 if option == "order 3" or (option == "reproducible" and "float64" in dtypes) else 1


TREES = {
    "float32": ["float32"],
    "bfloat16": ["bfloat16"],
    "float64": ["float64"],
    "mixed": ["float32", "bfloat16", "float16", "float64"],
}
SIZES = (1, 7, 1000, 65_537)
options = argparse.Namespace(device="cuda", leaves=1000)


def group() -> Any:
    return dist.group.WORLD


def on_cuda() -> bool:
    return bool(options.device == "cuda")


def wait() -> None:
    if on_cuda():
        torch.cuda.synchronize()


def drawn(size: int, dtype: str, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, generator=generator, dtype=torch.float64)
    return x.to(options.device, getattr(torch, dtype))


def tree(dtypes: Sequence[str]) -> list[torch.Tensor]:
    return [drawn(n, dtype, n) for n in SIZES for dtype in dtypes]


def bits(x: torch.Tensor) -> Any:
    return x.detach().cpu().contiguous().view(torch.uint8).numpy()


def differing(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> int:
    """How many bytes of two lists of tensors differ."""
    return sum(int((bits(a) != bits(b)).sum()) for a, b in zip(ours, theirs, strict=True))


def ratio(a: Any, b: Any) -> float:
    return abs(float(a) / float(b) - 1)


def models() -> tuple[torch.nn.Module, torch.nn.Module]:
    """One model, plain and by FSDP2, with the same gradients."""
    from torch.distributed.fsdp import fully_shard

    found = []
    for sharded in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(16, 64), torch.nn.Tanh(), torch.nn.Linear(64, 4)
        ).to(options.device)
        if sharded:
            mesh = init_device_mesh(options.device, (1,))
            for layer in (model[0], model[2], model):
                fully_shard(layer, mesh=mesh)
        x = drawn(128 * 16, "float32", 5).reshape(128, 16)
        (model(x).square().sum() * 10).backward()
        found.append(model)
    return found[0], found[1]


def grads_of(model: torch.nn.Module) -> list[Any]:
    return [p.grad for p in model.parameters()]


def locals_of(grads: Sequence[Any]) -> list[torch.Tensor]:
    return [x.to_local() if isinstance(x, DTensor) else x for x in grads]
