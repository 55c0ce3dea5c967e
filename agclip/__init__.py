"""Gradient clipping for NumPy, PyTorch, JAX, TensorFlow and every Array API library."""

from typing import TYPE_CHECKING

from agclip._as_written import mark as _mark
from agclip._backends.backend import Backend
from agclip._backends.listing import BackendInfo, backends
from agclip._backends.registry import register_backend
from agclip._trees.asarray import asarray, namespace
from agclip._trees.default_backend import get_backend
from agclip._trees.tree import register_container
from agclip.config import config_context, get_config, load_config, set_config
from agclip.functions.adaptive import adaptive_grad_clip, adaptive_grad_clip_
from agclip.functions.average import (
    clip_by_average_norm,
    clip_by_average_norm_,
    clip_by_rms,
    clip_by_rms_,
)
from agclip.functions.global_norm import clip_by_global_norm, clip_by_global_norm_, global_norm
from agclip.functions.norm import clip_by_norm, clip_by_norm_
from agclip.functions.per_example import clip_per_example
from agclip.functions.value import clip_by_value, clip_by_value_

if TYPE_CHECKING:
    from agclip.rules import (
        AdaGC,
        AdaptiveGradClip,
        AutoClip,
        Chain,
        ClipByAverageNorm,
        ClipByGlobalNorm,
        ClipByNorm,
        ClipByRMS,
        ClipByValue,
        ClipInfo,
        Clipper,
        PerGroup,
        QuantileClip,
        Rule,
        Scheduled,
        SpikeClip,
        ZClip,
    )

__version__ = "0.1.0"

__all__ = [
    "AdaGC",
    "AdaptiveGradClip",
    "AutoClip",
    "Backend",
    "BackendInfo",
    "Chain",
    "ClipByAverageNorm",
    "ClipByGlobalNorm",
    "ClipByNorm",
    "ClipByRMS",
    "ClipByValue",
    "ClipInfo",
    "Clipper",
    "PerGroup",
    "QuantileClip",
    "Rule",
    "Scheduled",
    "SpikeClip",
    "ZClip",
    "__version__",
    "adaptive_grad_clip",
    "adaptive_grad_clip_",
    "asarray",
    "backends",
    "clip_by_average_norm",
    "clip_by_average_norm_",
    "clip_by_global_norm",
    "clip_by_global_norm_",
    "clip_by_norm",
    "clip_by_norm_",
    "clip_by_rms",
    "clip_by_rms_",
    "clip_by_value",
    "clip_by_value_",
    "clip_per_example",
    "config_context",
    "get_backend",
    "get_config",
    "global_norm",
    "load_config",
    "namespace",
    "register_backend",
    "register_container",
    "set_config",
]


_mark(globals()[name] for name in __all__ if name in globals())

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Return a rule: their module is loaded at first use, as most programs need none or one."""
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        from agclip import rules

        return getattr(rules, name)

    def __dir__() -> list[str]:
        return sorted(__all__)
