"""The leaves of one call: what is known of them, and how they are put back."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip import config
from agclip._backends import kernels, shapes
from agclip._backends.backend import Backend
from agclip._backends.dtypes import Kind
from agclip._backends.questions import Misplaced
from agclip._backends.sparse import Sparse
from agclip._trees import advice, foreign
from agclip._trees import structure as structures
from agclip._trees.literals import Literal
from agclip._typing import Access, Array, Tree
from agclip.distributed._ranks import Parts

_DEAREST_FIRST: tuple[Access, ...] = ("never", "sync", "graph", "free")


class Leaves(NamedTuple):
    """The arrays of a tree, their one backend, and how to put the tree together again."""

    name: str
    backend: Backend
    arrays: Sequence[Array]
    kinds: Sequence[Kind]
    structure: structures.Structure
    originals: list[Any] | None = None
    """What the arrays were made of, if some came from another library than the configured one."""
    misplaced: Misplaced | None = None
    """What may be a parameter in the place of a gradient."""
    access: Access = "free"
    """What reading the values costs, the dearest leaf deciding."""
    sparse: Sequence[Sparse | None] | None = None
    """Of each leaf that is an array of stored values what they belong to; None if none is."""
    cuts: Sequence[Sequence[Any]] | None = None
    """For each array over which links or axes it is cut; None where types do not speak of it."""
    wholes: Sequence[Any] | None = None
    """What the arrays are parts of; None if they are what the tree holds."""
    parts: Parts | None = None
    """What else types have told; None likewise."""
    stand_in: bool = False
    """Whether the one array is none of the tree's: see `_trees.stand_in`."""

    @property
    def distinct(self) -> bool:
        """Whether it is known that no two arrays share memory."""
        return getattr(self.arrays, "distinct", False)

    def warn_of_parameters(self) -> None:
        """Warn that parameters are about to be scaled by one norm: it is seldom meant."""
        assert self.misplaced is not None, "some have been found"
        tell_caller(
            f"`{self.name}` holds {self.misplaced.found} at {self.path(self.misplaced.position)}, "
            f"which is clipped, not its gradient. {self.misplaced.instead}"
        )

    @property
    def measured(self) -> Sequence[Array] | None:
        """What norms are taken of, where that is not the arrays: sums that had to be formed."""
        return None if self.parts is None else self.parts.measured

    @property
    def held(self) -> Sequence[Any]:
        """What the tree holds: the arrays, or what they are parts of."""
        return self.arrays if self.wholes is None else self.wholes

    def path(self, index: int) -> str:
        """Return the path of a leaf, such as `t['w'][0]`."""
        return path_of(self.structure, self.name, index)

    def paths(self) -> list[str]:
        """Return the path of every leaf: in one walk, where `path` takes one for each."""
        return list(structures.paths(self.structure, self.name))

    def rebuild(self, arrays: Sequence[Array]) -> Tree:
        """Return the tree with other arrays in the places of its leaves."""
        restore = self.backend.restore
        pairs = zip(self.arrays, self.arrays if self.stand_in else arrays, strict=True)
        if self.originals is not None:
            new = [self._given_back(i, one, other) for i, (one, other) in enumerate(pairs)]
        elif self.wholes is not None:
            assert self.parts is not None, "they have been found"
            rejoin = self.parts.rejoin or restore
            new = [
                whole if one is other else rejoin(whole, other)
                for whole, (one, other) in zip(self.wholes, pairs, strict=True)
            ]
        else:
            new = [] if self.stand_in else list(arrays)
            for i, (one, other) in enumerate(() if restore is kernels.restore else pairs):
                if one is not other:
                    new[i] = restore(one, other)
            for i, part in enumerate(self.sparse or ()):
                if part is not None:
                    same = arrays[i] is part.values
                    new[i] = part.whole if same else part.rebuild(new[i])
        try:
            return structures.unflatten(self.structure, iter(new))
        except RecursionError:
            advice.refuse_depth(self.name)

    def _given_back(self, i: int, array: Array, new: Array) -> Any:
        assert self.originals is not None, "there is something to give back"
        original = self.originals[i]
        if isinstance(original, Literal):
            return new
        return original if array is new else foreign.give_back(new, self.backend, original)

    def objects(self) -> Leaves:
        """Return the leaves with sparse objects in the places of what they store."""
        if self.sparse is None:
            return self
        pairs = zip(self.arrays, self.sparse, strict=True)
        whole = [leaf if part is None else part.whole for leaf, part in pairs]
        return self._replace(arrays=whole, sparse=None)

    def overwrite(self, arrays: Sequence[Array]) -> None:
        """Write other arrays into what the leaves were made of, once all have been given back."""
        assert self.originals is not None, "there is something to give back"
        pairs = zip(self.arrays, arrays, strict=True)
        back = [self._given_back(i, one, other) for i, (one, other) in enumerate(pairs)]
        for original, new in zip(self.originals, back, strict=True):
            if new is not original:
                kernels.write(original, new)

    def own(self, x: Array) -> Array:
        """Return a result as an array of the library that the first array of the tree is of."""
        if self.originals is None:
            return x
        arrays = [leaf for leaf in self.originals if not isinstance(leaf, Literal)]
        return foreign.give_back(x, self.backend, arrays[0], leaf=False) if arrays else x

    def require_uncut(self) -> None:
        """Raise a ValueError if a leaf is cut over processes: for clips that need all of it."""
        for i, cut in enumerate(self.cuts or ()):
            if cut:
                msg = (
                    f"`{self.name}` must hold whole arrays for this clip; got one that is cut over "
                    f"processes at {self.path(i)}. Clip by the norms of leaves or by the global "
                    f"norm, or gather it first."
                )
                raise ValueError(msg)

    def require_summed(self) -> None:
        """Raise a ValueError if a leaf is a sum over processes that has not been formed yet."""
        if self.measured is None:
            return
        for i, (here, whole) in enumerate(zip(self.arrays, self.measured, strict=True)):
            if here is not whole:
                msg = (
                    f"`{self.name}` must hold elements that can be clipped; got one part of a sum "
                    f"over processes at {self.path(i)}. Form the sum first."
                )
                raise ValueError(msg)

    def require_whole(self) -> None:
        """Raise a ValueError if the norm of an array cannot be told from what is here of it."""
        found = self.backend.partial(self.arrays)
        if found is not None and config.current().on_shard == "error":
            index, reason = found
            msg = (
                f"`{self.name}` must hold whole arrays where norms are taken; got one that "
                f"{reason} at {self.path(index)}. Where every device holds all of it, as after a "
                f'mean over them, set `on_shard` to "whole"; where each holds a part, name the '
                f"axes as `comm` of a global norm, or call agclip outside of it."
            )
            raise ValueError(msg)

    def require_dense(self, where: str) -> None:
        """Raise a TypeError if a leaf is sparse, and something needs its axes or zeros."""
        for i, part in enumerate(self.sparse or ()):
            if part is not None:
                msg = (
                    f"`{self.name}` must hold dense arrays {where}; got a sparse one "
                    f"({type(part.whole).__name__}) at {self.path(i)}. Convert it first, or clip "
                    f"it by a norm of the whole array."
                )
                raise TypeError(msg)

    def require_axes(self) -> None:
        """Raise a ValueError if it is not known how many axes a leaf has."""
        for i, leaf in enumerate(self.arrays):
            if shapes.known_shape(leaf) is None:
                msg = (
                    f"`{self.name}` must hold arrays whose axes are known where norms are taken "
                    f"along some; got one of unknown rank at {self.path(i)}. Set its shape first."
                )
                raise ValueError(msg)


def dearest(backend: Backend, arrays: Sequence[Array]) -> Access:
    """Return what reading the values of arrays costs, the dearest one deciding."""
    costs = {backend.access(leaf) for leaf in arrays}
    for cost in _DEAREST_FIRST:
        if cost in costs:
            return cost
    return "free"


def path_of(structure: structures.Structure, name: str, index: int) -> str:
    return next(itertools.islice(structures.paths(structure, name), index, None))


def warn_empty(name: str, consequence: str = "nothing is clipped") -> None:
    """Warn, on behalf of the caller's line, that a call has nothing to do."""
    tell_caller(f"`{name}` holds no array: {consequence}. Was an iterator used up?")


def tell_caller(msg: str) -> None:
    """Warn on behalf of the caller's line."""
    depth = 1
    while sys._getframe(depth).f_globals.get("__name__", "").partition(".")[0] == "agclip":
        depth += 1
    warnings.warn(msg, UserWarning, stacklevel=depth + 1)
