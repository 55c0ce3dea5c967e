"""Process groups of torch.distributed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from agclip.adapters import Engine, Op


def all_reduce(group: Any, vector: Any, op: Op) -> Any:
    """Return the sum or the maximum of the vectors of all ranks of a process group.

    Raises:
        TypeError: If autograd records the vector, whose derivative would stop here.
    """
    how = dist.ReduceOp.SUM if op == "sum" else dist.ReduceOp.MAX
    if not isinstance(vector, torch.Tensor):
        values = torch.from_numpy(np.array(vector, np.float64)).to(_place(group, "cpu"))
        dist.all_reduce(values, op=how, group=group)
        return values.tolist()
    if vector.requires_grad and torch.is_grad_enabled():
        # What the others take for a failure: they wait for this rank.
        lost = torch.full_like(vector, math.nan if op == "sum" else math.inf, requires_grad=False)
        dist.all_reduce(lost.to(_place(group, vector.device.type)), op=how, group=group)
        msg = (
            "gradients must not be recorded by autograd where norms are reduced over a process "
            "group, through which there is no derivative; got a tensor that requires grad. Call "
            "agclip under torch.no_grad(), or detach them."
        )
        raise TypeError(msg)
    if torch.compiler.is_compiling():
        made = vector.clone()
        dist.all_reduce(made, op=how, group=group)
        return made
    made = vector.to(_place(group, vector.device.type), copy=True)
    dist.all_reduce(made, op=how, group=group)
    return made.to(vector.device)


def _place(group: Any, kind: str) -> torch.device:
    """Return a device on which a process group reduces: of a kind, if it does so there."""
    kinds = [device.type for device in group._device_types]  # not public (torch 2.13)
    kind = kind if kind in kinds else kinds[0]
    if kind == "cpu":
        return torch.device(kind)
    return torch.device(kind, torch.accelerator.current_device_index())


def _accepts(x: Any) -> bool:
    return dist.is_available() and isinstance(x, dist.ProcessGroup)


def _host(group: Any) -> bool:
    """Tell whether a process group moves what is in host memory, and nothing else."""
    return dist.get_backend(group) in ("gloo", "mpi")


engine = Engine(accepts=_accepts, all_reduce=all_reduce, host=_host)
