"""agclip where optax clips: its functions with norms that are right, and every rule as one."""

from agclip.integrations.optax.clipping import (
    adaptive_grad_clip,
    clip,
    clip_by_block_rms,
    clip_by_global_norm,
)
from agclip.integrations.optax.per_example import (
    per_example_global_norm_clip,
    per_example_layer_norm_clip,
)
from agclip.integrations.optax.transformation import ClipState, as_gradient_transformation

__all__ = [
    "ClipState",
    "adaptive_grad_clip",
    "as_gradient_transformation",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "per_example_global_norm_clip",
    "per_example_layer_norm_clip",
]
