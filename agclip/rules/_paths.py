"""The places of leaves, by which rules know them: `layers.0.bias`, whatever the containers."""

from __future__ import annotations

from agclip._trees import paths as spelled
from agclip._trees.leaves import Leaves


def paths(leaves: Leaves) -> list[str]:
    """Return the path of every leaf, as `agclip._trees.paths` spells it; no two are alike."""
    return spelled.dotted(leaves.structure)


def absent(leaves: Leaves) -> list[str]:
    """Return the path of every place that holds None."""
    return spelled.dotted(leaves.structure, absent=True)
