"""The contract of clips of slices: equal parts of a leaf, one after the other in its memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from agclip._backends.contract import Factor
from agclip._typing import Array, Namespace


class SumSlices(Protocol):
    """Sums of squares of slices of leaves on a device, in few launches.

    A slice is what leading axes name: leaves are cut into equal parts, one after the other in the
    order of their axes.

    Example:
        >>> agclip.get_backend("numpy").sum_slices(np, [np.ones((2, 3))], [2]) is None
        True
    """

    def __call__(self, xp: Namespace, leaves: Sequence[Array], counts: Sequence[int], /) -> Any:
        """Return Σ|x|² of every slice, those of a leaf after those of the one before; or None.

        Args:
            xp: The namespace.
            leaves: Leaves of real dtypes narrower than float64, on one device.
            counts: How many slices each leaf is.

        Returns:
            An array of float64 of one axis; None to decline.
        """
        ...


class ScaleSlices(Protocol):
    """The products of slices of leaves on a device, each with a coefficient of its own.

    Example:
        >>> half = Factor((None, 0.5), (None, 0.5))
        >>> agclip.get_backend("numpy").scale_slices(np, [np.ones(2)], [1], half, False) is None
        True
    """

    def __call__(
        self,
        xp: Namespace,
        leaves: Sequence[Array],
        counts: Sequence[int],
        factor: Factor,
        inplace: bool,
        /,
    ) -> Sequence[Array] | None:
        """Return new leaves, or the leaves overwritten; None, and nothing done, to decline.

        Args:
            xp: The namespace.
            leaves: As for `SumSlices`.
            counts: Likewise.
            factor: Its parts are numbers that go for all slices, or arrays as `SumSlices` returns.
            inplace: Whether leaves, of which no two share memory, are overwritten.
        """
        ...
