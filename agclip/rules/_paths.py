"""The places of leaves, by which rules know them: `layers.0.bias`, whatever the containers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from agclip._trees import paths as spelled
from agclip._trees.leaves import Leaves
from agclip._trees.structure import Node, Structure


def paths(leaves: Leaves) -> Sequence[str]:
    """Return the path of every leaf, as `agclip._trees.paths` spells it; no two are alike."""
    # Compiled code would not look into a cache, and warns of it (PyTorch 2.11).
    if leaves.access == "never":
        return spelled.dotted(leaves.structure)
    return _known(leaves.structure)


def later(leaves: Leaves) -> Callable[[], Sequence[str]]:
    """Return a function that returns the same, and holds nothing that the tree does."""
    structure = leaves.structure
    if isinstance(structure, Node):
        if structure.flat:
            _, keys, places, key_format, *_ = structure
            structure = Node(list, keys, places, key_format, flat=True)
        elif structure.holds:
            found = _known(structure)
            return lambda: found
    return functools.partial(_known, structure)


def _known(structure: Structure) -> Sequence[str]:
    if isinstance(structure, Node) and structure.flat:
        if structure.keys is None:
            return _numbers(len(structure.children))
        if structure.key_format != "{}" and set(map(type, structure.keys)) == {str}:
            return _names(tuple(structure.keys))
    return spelled.dotted(structure)


@functools.lru_cache(maxsize=64)  # every step asks for the same leaves
def _names(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(spelled.spelled(keys))


@functools.lru_cache(maxsize=64)
def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def absent(leaves: Leaves) -> list[str]:
    """Return the path of every place that holds None."""
    return spelled.dotted(leaves.structure, absent=True)
