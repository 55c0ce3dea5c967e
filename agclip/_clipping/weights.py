"""What the bound on each leaf is multiplied by: averages and root mean squares as plain norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agclip._backends import shapes
from agclip._backends.backend import Backend
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Scalar

Weight = Callable[[Any], Scalar]
"""What the bound is multiplied by, from the number of elements of a leaf."""


def size(count: Any) -> Scalar:
    """Return how many elements a leaf has."""
    number: float = float(count) if isinstance(count, int) else count * 1.0
    return number


def root_size(count: Any) -> Scalar:
    """Return the square root of the number of elements."""
    number: Any = size(count)
    root: float = math.sqrt(number) if isinstance(number, float) else number**0.5
    return root


def _count(backend: Backend, leaf: Array) -> Any:
    """Return how many elements a leaf has, 1 for an empty one.

    Where a program is traced for more shapes than one, that is a symbol, and stays one; or the
    program counts the elements.
    """
    lengths = shapes.known_shape(leaf)
    if lengths is None or any(length is None for length in lengths):
        xp = backend.xp
        ones = xp.ones_like(leaf, dtype=backend.acc_dtype(xp, leaf))
        counted = xp.sum(ones)
        return xp.where(counted > 0, counted, xp.ones_like(counted))
    return max(math.prod(lengths), 1)


def of_leaves(leaves: Leaves, weight: Weight) -> tuple[Scalar, ...]:
    """Return what the bound on each leaf is multiplied by.

    Elements that a sparse leaf does not store are elements.

    Raises:
        ValueError: If the size of a leaf is not known.
    """
    if leaves.cuts is not None and leaves.wholes is None:
        leaves.require_uncut()  # how many elements a whole leaf has is not known
    parts = leaves.sparse or [None] * len(leaves.held)
    for i, (leaf, part) in enumerate(zip(leaves.held, parts, strict=True)):
        lengths = shapes.known_shape(leaf) or ()
        # Not `isnan`: a compiler's symbol of a size is no number yet.
        if any(length != length for length in lengths) or (part is not None and part.size is None):
            shape = lengths if part is None else part.whole.shape
            how = "Let the library compute the shape first" if part is None else "Give it its shape"
            msg = (
                f"`{leaves.name}` must have a known size; got shape {shape} at "
                f"{leaves.path(i)}. {how}."
            )
            raise ValueError(msg)
    backend = leaves.backend
    return tuple(
        weight(_count(backend, leaf) if part is None else part.size)
        for leaf, part in zip(leaves.held, parts, strict=True)
    )
