"""FSDP2 on the CPU with ZClip before every step, saved, and resumed on another number of processes.

    torchrun --nproc-per-node 2 fsdp2.py run --steps 6     trains, and saves into the folder run
    torchrun --nproc-per-node 3 fsdp2.py run --steps 6     goes on from there, on three processes

Every step prints the norm and the threshold: they do not depend on the number of processes.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

import agclip
from agclip.integrations.torch import attach

BATCH = 12  # examples of a step on all processes together


def batch(step, rank, size):
    """Return this process's share of the examples of a step."""
    draw = torch.Generator().manual_seed(step)
    x = torch.randn(BATCH, 16, generator=draw)
    y = x.sum(1, keepdim=True) * (30.0 if step % 5 == 4 else 1.0)  # now and then a spike
    mine = slice(rank * BATCH // size, (rank + 1) * BATCH // size)
    return x[mine], y[mine]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--steps", type=int, default=6)
    arguments = options.parse_args()
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    clip = attach(optimizer, agclip.ZClip(warmup=3, max_norm=None), model=model)

    state = arguments.folder / "clip.json"
    if state.exists():
        states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))
        dcp.load(states, checkpoint_id=arguments.folder)
        set_state_dict(
            model,
            optimizer,
            model_state_dict=states["model"],
            optim_state_dict=states["optimizer"],
        )
        clip.load_state_dict(json.loads(state.read_text()))

    for step in range(clip.step, clip.step + arguments.steps):
        x, y = batch(step, rank, size)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        info = clip.last.to_host()
        if rank == 0:
            print(f"{step} {info.norm:.9g} {info.threshold:.9g}")

    states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))
    dcp.save(states, checkpoint_id=arguments.folder)
    if rank == 0:
        state.write_text(json.dumps(clip.state_dict()))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
