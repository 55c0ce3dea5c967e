"""FSDP1 on the CPU, by its process group: gradients are plain tensors, flat and cut, or whole."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

import agclip
from ranks.cases import plain

BATCH = 8
STRATEGIES = {
    "FULL_SHARD": None,
    "SHARD_GRAD_OP": None,
    "NO_SHARD": 4,  # all ranks hold all gradients
}
"""Strategies, and what to pass as `replicas`."""


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))


def clipped(rank, strategy, *, original):
    """Return the norm by agclip and by FSDP1 beside that of one process, and after a clip."""
    alone = model()
    sharded = FullyShardedDataParallel(
        model(),
        device_id=torch.device("cpu"),
        sharding_strategy=ShardingStrategy[strategy],
        use_orig_params=original,
    )
    x = torch.sin(torch.arange(8.0 * BATCH)).reshape(BATCH, 8)
    share = BATCH // dist.get_world_size()
    sharded(x[rank * share : (rank + 1) * share]).square().mean().backward()
    alone(x).square().mean().backward()
    grads = [p.grad for p in sharded.parameters() if p.grad is not None]
    options = {"comm": dist.group.WORLD, "replicas": STRATEGIES[strategy]}
    wanted = float(agclip.global_norm([p.grad for p in alone.parameters()]))
    theirs = float(sharded.clip_grad_norm_(1e9))
    _, norm = agclip.clip_by_global_norm_(grads, 0.5 * wanted, **options)
    after = agclip.global_norm(grads, **options)
    return {
        "norm": [float(norm), wanted],
        "measured": [theirs, wanted],
        "right": [plain(after), 0.5 * wanted],
    }


def found_by(rank):
    """Return what every case gives on this rank, or the text of its error."""
    from ranks.cases import outcome

    return {
        f"torch: FSDP1, {name}, original={original}": outcome(
            lambda r, s=name, o=original: clipped(r, s, original=o), rank
        )
        for name in STRATEGIES
        for original in (False, True)
    }
