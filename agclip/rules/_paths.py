"""The places of leaves, by which rules know them: `layers.0.bias`, whatever the containers."""

from __future__ import annotations

from collections.abc import Mapping

from agclip import _paths
from agclip._leaves import Leaves


def paths(leaves: Leaves) -> list[str]:
    """Return the path of every leaf, as `agclip._paths` spells it; no two are alike."""
    return _paths.dotted(leaves.structure)


def absent(leaves: Leaves) -> list[str]:
    """Return the path of every place that holds None."""
    return _paths.dotted(leaves.structure, absent=True)


def known(leaves: Leaves, state: Mapping[str, object]) -> list[str]:
    """Return the path of every leaf, each of which a state must know.

    Raises:
        ValueError: If a path is new.
    """
    found = paths(leaves)
    for path in found:
        if path not in state:
            msg = (
                f"`{leaves.name}` must have the leaves that the state was made for; got a new one "
                f"at {path!r}. Make a new state with init(params)."
            )
            raise ValueError(msg)
    return found
