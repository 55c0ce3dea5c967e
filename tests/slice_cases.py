"""Clips of slices, and shapes of leaves, for every library whose devices take them at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import agclip

SHAPES = [(4, 3), (1, 5), (0, 2), (2, 0), (7,), (), (2, 3, 2, 5), (30, 9)]
LARGE = [(2, 16_500), (3, 1), (1, 40_003)]
"""Of slices that several blocks add up."""
OPTIONS = [
    {"nonfinite": policy, "strict": strict, "loss_scale": scale}
    for policy, strict, scale in itertools.product(
        ("propagate", "zero", "skip"), (False, True), (None, 0.37)
    )
    if strict == (scale is None)
]


def calls(params: Callable[[Any], Any]) -> dict[str, Callable[..., Any]]:
    """Return clips along axes and of units, by name; `params(leaves)` returns their parameters."""
    return {
        "axes": lambda t, **o: agclip.clip_by_norm(t, 0.5, axes=-1, **o),
        "axes, in place": lambda t, **o: agclip.clip_by_norm_(t, 0.5, axes=-1, **o),
        "units": lambda t, **o: agclip.adaptive_grad_clip(
            t, params(t), 0.1, unit_axes="out_in", **o
        ),
        "units, in place": lambda t, **o: agclip.adaptive_grad_clip_(
            t, params(t), 0.1, unit_axes="out_in", **o
        ),
    }
