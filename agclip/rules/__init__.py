"""Rules: clips as values with one interface, some of which remember earlier steps."""

from agclip._as_written import mark as _mark
from agclip.rules._info import ClipInfo
from agclip.rules._rule import Rule
from agclip.rules.adagc import AdaGC
from agclip.rules.adaptive import AdaptiveGradClip
from agclip.rules.autoclip import AutoClip
from agclip.rules.chain import Chain
from agclip.rules.clipper import Clipper
from agclip.rules.norms import ClipByAverageNorm, ClipByGlobalNorm, ClipByNorm, ClipByRMS
from agclip.rules.per_group import PerGroup
from agclip.rules.quantile import QuantileClip
from agclip.rules.scheduled import Scheduled
from agclip.rules.spike import SpikeClip
from agclip.rules.value import ClipByValue
from agclip.rules.zclip import ZClip

__all__ = [
    "AdaGC",
    "AdaptiveGradClip",
    "AutoClip",
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
]

_mark(globals()[name] for name in __all__)
