"""What the rules with a memory would have done in a past run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import agclip
from agclip._typing import Array
from agclip.cli.command.progress import progress
from agclip_backends import DEFAULT

RULES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("AutoClip", {}),
    ("AutoClip", {"percentile": 90.0}),
    ("ZClip", {}),
    ("ZClip", {"max_norm": None}),
    ("QuantileClip", {}),
)
"""Rules that look at the global norm alone, as they come and otherwise."""
MOST = 1000
"""Steps that are replayed at most: a step takes half a millisecond, and the log may be long."""
LEFT_OUT = {
    "AdaGC, ClipByNorm, ClipByAverageNorm": "they look at each array, and the log has one norm",
    "ClipByValue, ClipByRMS, SpikeClip": "they look at each element, and the log has one norm",
    "AdaptiveGradClip": "it compares with the parameters, which the log does not have",
}


class Replay(NamedTuple):
    """What a rule would have done."""

    rule: str
    steps: int
    clipped: int
    threshold: float
    """Its bound in the last step."""


def replays(norms: Sequence[float], *, quiet: bool) -> list[Replay]:
    """Replay every rule that a series of norms is enough for, on the last norms.

    Args:
        norms: Past norms, in order.
        quiet: Show no progress.
    """
    norms = norms[-MOST:]
    return [_replay(name, options, norms, quiet) for name, options in RULES]


def _replay(name: str, options: dict[str, Any], norms: Sequence[float], quiet: bool) -> Replay:
    words = ", ".join(f"{key}={value!r}" for key, value in options.items())
    shown = f"{name}({words})"
    rule = getattr(agclip, name)(**options)
    state = rule.init(_gradient(norms[0]))
    clipped, threshold = 0, math.inf
    with progress(shown, len(norms), quiet=quiet, bar_only=True) as report:
        for step, norm in enumerate(norms, start=1):
            _, state, info = rule.update(_gradient(norm), state)
            said = info.to_host()
            clipped += said.clipped
            threshold = said.threshold
            report(step, "")
    return Replay(shown, len(norms), clipped, threshold)


def _gradient(norm: float) -> list[Array]:
    """Return a gradient of a norm: one entry, in float64, so that the norm is exact."""
    xp = agclip.get_backend(DEFAULT).xp
    return [xp.asarray([norm], dtype=xp.float64)]
