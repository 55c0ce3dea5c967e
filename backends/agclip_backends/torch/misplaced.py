"""Parameters, modules and optimizers in the place of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from agclip.adapters import LeafBatch, Misplaced
from agclip_backends.torch.tensors import watched

_GRADIENTS = (
    "Pass the gradients, such as `[p.grad for p in model.parameters()]`, or call "
    "`agclip.integrations.torch.clip_grad_norm_`, which takes parameters"
)
_MEANT = (
    "; where the parameters themselves are meant, `p.detach()`, or `p.view_as(p)` to record it."
)


def misplaced(leaves: Sequence[Any], types: set[type]) -> Misplaced | None:
    """Return the first parameter, module or optimizer in the place of a gradient.

    Where gradients are recorded that is a `Parameter` that requires grad, and any other leaf of
    autograd that has its gradient already: one without is an input of a function that is to be
    differentiated, and so are gradients that have a graph. Elsewhere weights may be what is to be
    clipped: those that have a gradient are reported as a doubt.
    """
    recording = torch.is_grad_enabled()
    if isinstance(leaves, LeafBatch) and (
        recording or (types == {torch.Tensor} and not leaves[0].requires_grad)
    ):
        return None  # `survey` has found that none requires grad, or the first is no parameter
    asked = not watched()
    for i, x in enumerate(leaves):
        if isinstance(x, (torch.nn.Module, torch.optim.Optimizer)):
            kind = "a module" if isinstance(x, torch.nn.Module) else "an optimizer"
            return Misplaced(i, f"{kind} ({type(x).__name__})", f"{_GRADIENTS}.", wrong=True)
        if not isinstance(x, torch.Tensor) or not x.requires_grad:
            continue
        trained = asked and x.is_leaf and x.grad is not None
        if (recording and isinstance(x, torch.nn.Parameter)) or trained:
            return Misplaced(
                i, "a parameter, which requires grad,", f"{_GRADIENTS}{_MEANT}", wrong=recording
            )
    return None
