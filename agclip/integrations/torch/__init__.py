"""agclip where PyTorch clips: `torch.nn.utils`' functions, and rules before a step."""

import torch

from agclip._backends import registry
from agclip.integrations.torch._attachment import Attachment
from agclip.integrations.torch._installed import install, installed, is_installed, uninstall
from agclip.integrations.torch.attach import attach, attachment
from agclip.integrations.torch.clip_grad import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from agclip.integrations.torch.errors import NonFiniteError

__all__ = [
    "Attachment",
    "NonFiniteError",
    "attach",
    "attachment",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
    "install",
    "installed",
    "is_installed",
    "uninstall",
]

# Compiled code looks tensors up in a table that it cannot enter them in: a later call outside of it
# would, and what is compiled would be compiled anew.
registry.resolve(torch.empty(0))
