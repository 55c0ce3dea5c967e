"""agclip where PyTorch clips: `torch.nn.utils`' functions, and rules before a step."""

from agclip.integrations.torch._attachment import Attachment
from agclip.integrations.torch.attach import attach, attachment
from agclip.integrations.torch.clip_grad import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)

__all__ = [
    "Attachment",
    "attach",
    "attachment",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
]
