"""FSDP2 on the CPU with ZClip before every step, saved, and resumed on another number of processes.

    torchrun --nproc-per-node 2 fsdp2.py run 6     takes 6 steps, and saves into the folder run
    torchrun --nproc-per-node 3 fsdp2.py run 6     goes on from there, on three processes

Every step prints the norm and the threshold: they do not depend on the number of processes.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

import agclip
from agclip.integrations.torch import attach


def batch(step, rank, size):
    """Return this process's share of the 12 examples of a step; every fifth step is a spike."""
    x = torch.randn(12, 16, generator=torch.Generator().manual_seed(step))
    y = x.sum(1, keepdim=True) * (30.0 if step % 5 == 4 else 1.0)
    mine = slice(rank * 12 // size, (rank + 1) * 12 // size)
    return x[mine], y[mine]


folder, steps = Path(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
for module in [*model, model]:
    fully_shard(module)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
clip = attach(optimizer, agclip.ZClip(warmup=3, max_norm=None), model=model)

if (folder / "clip.json").exists():
    weights, moments = get_state_dict(model, optimizer)
    dcp.load({"model": weights, "optimizer": moments}, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
    clip.load_state_dict(json.loads((folder / "clip.json").read_text()))

for step in range(clip.step, clip.step + steps):
    x, y = batch(step, rank, size)
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
    info = clip.last.to_host()
    if rank == 0:
        print(f"{step} {info.norm:.9g} {info.threshold:.9g}")

weights, moments = get_state_dict(model, optimizer)
dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=folder)
if rank == 0:
    (folder / "clip.json").write_text(json.dumps(clip.state_dict()))
dist.destroy_process_group()
