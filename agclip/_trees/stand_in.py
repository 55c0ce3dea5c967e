"""A process without leaves takes part in a norm of several with an array without elements."""

from __future__ import annotations

from typing import Any

from agclip._backends import kernels, registry
from agclip._trees.default_backend import make
from agclip._trees.leaves import Leaves
from agclip._typing import Array


class Nothing(dict[str, Any]):
    """A tree without leaves in a process that holds others, and one of these.

    What stands in for leaves is then of their library, and on their device.
    """

    like: Array = None


def nothing(like: Array) -> Nothing:
    """Return a tree without leaves, beside which there is an array."""
    made = Nothing()
    made.like = like
    return made


def standing_in(leaves: Leaves, tree: Any = None) -> Leaves:
    """Return leaves of a tree without arrays, with one that stands in for them.

    It has the scalars of a call somewhere to be. Nothing of it goes back into the tree.
    """
    like = getattr(tree, "like", None) if isinstance(tree, Nothing) else None
    backend = leaves.backend if like is None else registry.resolve(like)
    assert backend is not None, "it is an array"
    if like is None:
        array = make([], "float32")
    else:
        with backend.context():
            xp, device = backend.xp, backend.device(like)
            array = kernels.number(xp, [], xp.float32, device)
    access = backend.access(array)
    return leaves._replace(backend=backend, arrays=[array], access=access, stand_in=True)
