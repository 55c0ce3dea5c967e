"""agclip in a loop of Accelerate: any rule where `accelerator.clip_grad_norm_` stands."""

from __future__ import annotations

from typing import Any

from agclip.integrations.torch._named import clip
from agclip.rules import Clipper
from agclip.rules._info import ClipInfo

_SHARDING = {"DEEPSPEED", "FSDP", "MEGATRON_LM", "XLA"}


def clip_gradients(
    accelerator: Any, module: Any, clipper: Clipper, *, optimizer: Any = None
) -> ClipInfo | None:
    """Clip the gradients of a module by a rule, before the step of the optimizer.

    What `accelerator.clip_grad_norm_(module.parameters(), 1.0)` is for a norm. While gradients are
    being accumulated it does nothing; else it unscales them where they are scaled, so it is called
    once before each step. Paths are the names of the module's parameters.
    `accelerator.register_for_checkpointing(clipper)` saves the state of the rule with the rest.

    Args:
        accelerator: The accelerator.
        module: The module, prepared or not.
        clipper: The rule with its state.
        optimizer: The optimizer whose gradients are unscaled, of several; None for all.

    Returns:
        A record of what has been done; None while gradients are being accumulated, or if no
        parameter has one.

    Raises:
        NotImplementedError: If each process holds a part of the gradients.

    Example:
        >>> import accelerate, agclip, torch
        >>> from agclip.integrations.accelerate import clip_gradients
        >>> accelerator = accelerate.Accelerator(cpu=True)
        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> net, optimizer = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=1.0))
        >>> accelerator.backward(net(torch.tensor([[3.0, 4.0]])).sum())
        >>> info = clip_gradients(accelerator, net, agclip.Clipper(agclip.ClipByGlobalNorm(1.0)))
        >>> float(info.norm)
        5.0
    """
    kind = accelerator.distributed_type.name
    if kind in _SHARDING:
        msg = (
            f"`accelerator` must leave each process whole gradients for a rule to clip; got one of "
            f"the kind {kind}. Use accelerator.clip_grad_norm_ there."
        )
        raise NotImplementedError(msg)
    if not accelerator.sync_gradients:
        return None
    accelerator.unscale_gradients(optimizer)
    return clip(clipper, dict(accelerator.unwrap_model(module).named_parameters()))
