"""Functions of some leaves at a time, which are traced once and called for all leaves of a graph.

To trace an operation costs more than to run it on a small leaf. A call is one operation, however
many there are in what is called, and none at run time: TensorFlow inlines it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import tensorflow as tf

LEAVES = 16
"""How many leaves a call takes."""
_LEAST = 32
"""How many leaves are traced faster so than one by one."""

Scalars = Callable[[Any], tuple[Any, ...]]


def called(
    leaves: Sequence[Any], function: Any, scalars: Scalars | None = None
) -> list[Any | None]:
    """Return what a function of `LEAVES` tensors of one dtype, and of scalars, returns for each.

    None for those that are not traced, or of a dtype that few have. The scalars are those of the
    first leaf of a dtype. There must be no branch in the function: what derivatives keep of one
    is nothing that XLA knows, unless it was traced for XLA. Nor does it know the shape of what they
    keep of a call within a branch, unless that is a part of the function (TensorFlow 2.21): where
    there are scalars, which such calls have, leaves of one shape have a function of their own.
    """
    found: list[Any | None] = [None] * len(leaves)
    if tf.executing_eagerly():
        return found
    kinds: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        shape = None if scalars is None else tuple(leaf.shape)
        kinds.setdefault((shape, leaf.dtype), []).append(i)
    for (shape, dtype), places in kinds.items():
        if len(places) < _LEAST:
            continue
        others = () if scalars is None else scalars(leaves[places[0]])
        spec: Any = tf.TensorSpec(shape, dtype)
        traced = function.get_concrete_function([spec] * LEAVES, *others)
        # A leaf that is lacking takes no time, unless it has a shape.
        end = len(places) if shape is None else len(places) // LEAVES * LEAVES
        for start in range(0, end, LEAVES):
            block = places[start : start + LEAVES]
            lacking = repeat(tf.zeros([], dtype), LEAVES - len(block))
            results = traced([*(leaves[i] for i in block), *lacking], *others)
            for i, one in zip(block, results, strict=False):
                found[i] = one
    return found
