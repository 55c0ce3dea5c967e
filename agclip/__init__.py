"""Gradient clipping for every array library: one definition, one name, one result."""

from typing import TYPE_CHECKING

from agclip._adaptive import adaptive_grad_clip, adaptive_grad_clip_
from agclip._averages import (
    clip_by_average_norm,
    clip_by_average_norm_,
    clip_by_rms,
    clip_by_rms_,
)
from agclip._backend import Backend
from agclip._global import clip_by_global_norm, clip_by_global_norm_, global_norm
from agclip._listing import BackendInfo, backends
from agclip._made import asarray, namespace
from agclip._per_example import clip_per_example
from agclip._per_leaf import clip_by_norm, clip_by_norm_
from agclip._registry import get_backend, register_backend
from agclip._tree import register_container
from agclip._value import clip_by_value, clip_by_value_
from agclip.config import config_context, get_config, load_config, set_config

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
