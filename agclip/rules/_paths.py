"""The places of leaves, by which rules know them: `layers.0.bias`, whatever the containers."""

from __future__ import annotations

from agclip import _paths
from agclip._leaves import Leaves


def paths(leaves: Leaves) -> list[str]:
    """Return the path of every leaf, as `agclip._paths` spells it; no two are alike."""
    return _paths.dotted(leaves.structure)


def absent(leaves: Leaves) -> list[str]:
    """Return the path of every place that holds None."""
    return _paths.dotted(leaves.structure, absent=True)
