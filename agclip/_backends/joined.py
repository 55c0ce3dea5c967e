"""Small leaves laid end to end, where an operation costs its launch, however few its elements."""

from __future__ import annotations

from collections.abc import Sequence

from agclip._backends import batch
from agclip._backends.backend import Backend
from agclip._backends.dtypes import Kind
from agclip._typing import Array

SMALL = 1 << 18
"""Elements up to which a leaf is copied: in less time than a few launches take."""
MOST = 1 << 22
"""Elements of a copy of several leaves."""


def joined(backend: Backend, leaves: Sequence[Array]) -> Sequence[Array]:
    """Return the elements of leaves in fewer arrays, in whatever order.

    For leaves of one device alone, of which nobody has the values at hand, and which no compiler
    sees: that one joins operations by itself.
    """
    if len(leaves) < 3 or not isinstance(leaves, batch.LeafBatch) or leaves.access != "sync":
        return leaves
    xp, made = backend.xp, []
    runs: dict[Kind, list[Array]] = {}
    lengths: dict[Kind, int] = {}

    def end(kind: Kind) -> None:
        run = runs.pop(kind)
        made.append(xp.concat([xp.reshape(leaf, (-1,)) for leaf in run]) if run[1:] else run[0])

    for leaf, kind, count in zip(leaves, leaves.column, leaves.counts, strict=True):
        if count > SMALL:
            made.append(leaf)
            continue
        if kind in runs and lengths[kind] + count > MOST:
            end(kind)
        lengths[kind] = lengths[kind] + count if kind in runs else count
        runs.setdefault(kind, []).append(leaf)
    for kind in list(runs):
        end(kind)
    return made
