"""What the bound on each leaf is multiplied by: averages and root mean squares as plain norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agclip._trees.leaves import Leaves
from agclip._typing import Array


def size(leaf: Array) -> float:
    """Return how many elements a leaf has, 1 for an empty one.

    Where a program is traced for more shapes than one, that is a symbol, and stays one.
    """
    count: Any = max(math.prod(leaf.shape), 1)
    number: float = float(count) if isinstance(count, int) else count * 1.0
    return number


def root_size(leaf: Array) -> float:
    """Return the square root of the number of elements."""
    count: Any = size(leaf)
    root: float = math.sqrt(count) if isinstance(count, float) else count**0.5
    return root


def of_leaves(leaves: Leaves, weight: Callable[[Array], float]) -> tuple[float, ...]:
    """Return what the bound on each leaf is multiplied by.

    Raises:
        ValueError: If the size of a leaf is not known.
    """
    for i, leaf in enumerate(leaves.arrays):
        # Not `isnan`: a compiler's symbol of a size is no number yet.
        if (count := math.prod(leaf.shape)) != count:
            msg = (
                f"`{leaves.name}` must have a known size; got shape {tuple(leaf.shape)} at "
                f"{leaves.path(i)}. Let the library compute the shape first."
            )
            raise ValueError(msg)
    return tuple(weight(leaf) for leaf in leaves.arrays)
