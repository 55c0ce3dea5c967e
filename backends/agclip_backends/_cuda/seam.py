"""What a backend offers of the fused CUDA kernels: `Backend.fused` and `Backend.clip`.

Everything the kernels do not take is left to the general program, and so is everything if they
cannot be compiled or loaded here: that is said once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from agclip.adapters import Decided, Terms, settings
from agclip_backends._cuda import halves
from agclip_backends._cuda.described import Described
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.kept import UnavailableError

_TERMS = Terms()
_KINDS = 4


def _by_kind(
    kinds: Sequence[int], lows: Sequence[float], highs: Sequence[float]
) -> tuple[Sequence[float], Sequence[float]] | None:
    """Return the bounds of each kind of leaf; None if leaves of one kind have several."""
    low, high = lows[0], highs[0]
    if lows.count(low) == highs.count(high) == len(kinds):
        return (low,) * _KINDS, (high,) * _KINDS
    bounds = set(zip(kinds, lows, highs, strict=True))
    pairs = {kind: (low, high) for kind, low, high in bounds}
    if len(pairs) < len(bounds):
        return None
    below, above = zip(*[pairs.get(kind, (0.0, 0.0)) for kind in range(_KINDS)], strict=True)
    return below, above


class Seam:
    """The fused kernels for the arrays of one library, as fields of a backend."""

    def __init__(self, room: Room) -> None:
        """Take the kernels of a library."""
        self.room = room
        self.unavailable: str | None = None
        """Why the kernels cannot be used here, once it has been found out."""

    def fused(
        self,
        leaves: Sequence[Any],
        terms: Terms,
        bound: Any,
        loss_scale: Any,
        inplace: bool,
        record: bool,
        /,
    ) -> Decided | None:
        """Decide on a clip: see `agclip._backends.fused.Fused`."""
        library, room = self.room.library, self.room
        if not self._takes(leaves, terms, (bound, loss_scale, terms.norm)):
            return None
        # Before memory is taken for new ones.
        described = library.describe(leaves)
        if described is None:
            return None
        with library.on(leaves):
            targets = None if inplace else library.like(leaves, described)
            try:
                work = room.decide(leaves, targets, terms, bound, loss_scale, record=record)
            except UnavailableError as error:
                self._go_without(error)
                return None
        if work is None:
            return None

        def apply() -> None:
            with library.on(leaves):
                room.apply(work)

        def new() -> list[Any]:
            assert targets is not None, "the leaves are not overwritten"
            apply()
            return targets

        return Decided(work.clipped.norm, work.clipped.details, new, apply)

    def clip(
        self, _: Any, leaves: Sequence[Any], lows: Sequence[float], highs: Sequence[float],
        inplace: bool, /,
    ) -> Sequence[Any] | None:  # fmt: skip
        """Clip elements to two numbers a leaf: see `Backend.clip`."""
        library, room = self.room.library, self.room
        if not self._takes(leaves, None, ()):
            return None
        if inplace and not library.as_stored(leaves):
            return None
        described = library.describe(leaves)
        if described is None:
            return None
        ends = _by_kind(described.kinds, lows, highs)
        if ends is None:
            return None
        lows, highs = ends

        def write(targets: Any) -> bool:
            return room.within(leaves, targets, lows, highs)

        return self._written(leaves, described, write, inplace=inplace)

    def sums(self, leaves: Sequence[Any], slices: Sequence[int] | None = None) -> Any | None:
        """Return Σ|x|² of each leaf, or slice, in float64, as one array; None for others to do."""
        if not self._takes(leaves, _TERMS, ()) or not self._sliced(leaves, slices):
            return None
        with self.room.library.on(leaves):
            try:
                return halves.sums(self.room, leaves, None if slices is None else tuple(slices))
            except UnavailableError as error:
                self._go_without(error)
                return None

    def multiply(
        self,
        leaves: Sequence[Any],
        record: Callable[[], tuple[Any, int]],
        /,
        *,
        inplace: bool,
        slices: Sequence[int] | None = None,
    ) -> Sequence[Any] | None:
        """Multiply leaves by the factor of a record: see `halves.multiply`.

        Args:
            leaves: The leaves.
            record: Returns the words of a decision, of which no part is differentiated by, and
                their address.
            inplace: Whether leaves are overwritten.
            slices: How many factors each leaf has; None for one that all have in common.

        Returns:
            The products; None, and nothing done, if that is left to others.
        """
        library = self.room.library
        if not self._takes(leaves, _TERMS, ()) or not self._sliced(leaves, slices):
            return None
        described = library.describe(leaves)
        if described is None:
            return None
        numbers = None if slices is None else tuple(slices)

        def write(targets: Any) -> bool:
            return halves.multiply(self.room, leaves, targets, record, numbers)

        return self._written(leaves, described, write, inplace=inplace)

    def _sliced(self, leaves: Sequence[Any], slices: Sequence[int] | None) -> bool:
        """Tell whether leaves can be cut into slices, if there are any."""
        if slices is None:
            return True
        return 0 < sum(slices) <= halves.MOST_SLICES and self.room.library.in_order(leaves)

    def _written(
        self,
        leaves: Sequence[Any],
        described: Described,
        write: Callable[[Sequence[Any] | None], bool],
        *,
        inplace: bool,
    ) -> Sequence[Any] | None:
        """Return what a launch writes, in the leaves or in new ones; None if it did not."""
        library = self.room.library
        with library.on(leaves):
            targets = None if inplace else library.like(leaves, described)
            try:
                done = write(targets)
            except UnavailableError as error:
                self._go_without(error)
                return None
        if not done:
            return None
        return leaves if targets is None else targets

    def _takes(self, leaves: Sequence[Any], terms: Terms | None, scalars: Sequence[Any]) -> bool:
        library = self.room.library
        if self.unavailable is not None or settings().accelerate == "off":
            return False
        return library.takes(leaves, terms, scalars)

    def _go_without(self, error: UnavailableError) -> None:
        self.unavailable = str(error)
        warnings.warn(
            f"agclip's CUDA kernels cannot be compiled or loaded here, so calls of the array "
            f"library answer in their place: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
