"""Arrays of which some elements are stored: what an adapter says of one, and what stands for it.

A leaf is then its stored values. These are what a coefficient multiplies: a product is linear, so
entries of one place need not be added up for that. For a norm, and to bring elements between two
bounds, they have to be: `Sparse.merged` has the same values with entries of one place added up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from agclip._typing import Array, DType, Scalar


class Merged(NamedTuple):
    """Values of which no two belong to one place, in the places of the stored ones.

    Example:
        >>> twice = np.asarray([1.0, 2.0])  # both of one place
        >>> merged = Merged(values=np.asarray([3.0, 0.0]), counted=np.asarray([True, False]))
        >>> float(merged.values.sum()) == float(twice.sum())
        True
    """

    values: Array
    """As many as are stored, or more where one is stored for several places. The sum of entries of
    one place stands at one of them, and zeros at the others; zeros stand where a slot has no
    place."""
    counted: Array | None
    """Where a value is that of its place, a mask that broadcasts against them; None for
    everywhere."""


class Sparse(NamedTuple):
    """An object that stores some elements of an array.

    Example:
        >>> places, values = [2, 7], np.asarray([3.0, 4.0])
        >>> leaf = Sparse(
        ...     whole=dict(zip(places, values)),
        ...     values=values,
        ...     size=10,
        ...     merged=lambda dtype: Merged(values.astype(dtype), None),
        ...     rebuild=lambda new: dict(zip(places, new.tolist())),
        ... )
        >>> leaf.rebuild(values / 5)
        {2: 0.6, 7: 0.8}
    """

    whole: Any
    """The object."""
    values: Array
    """The stored values, a dense array, in the memory of the object itself where that can be
    written."""
    size: Scalar | None
    """How many elements there are, stored or not; None if that is not known."""
    merged: Callable[[DType], Merged]
    """Returns the values with entries of one place added up in a dtype that is at least as wide;
    the stored values themselves where it is plain that no two are of one place."""
    rebuild: Callable[[Array], Any]
    """Returns an object with other values in these places."""
    zeros: bool = True
    """Whether elements that are not stored are zeros to a clip of single elements, or out of its
    reach."""
    unwritable: str | None = None
    """Why the values cannot be overwritten; None to have `Backend.unwritable` asked about them."""


class FindSparse(Protocol):
    """Sparse objects among leaves.

    Example:
        >>> kernel = agclip.get_backend("numpy").sparse
        >>> kernel([np.ones(2)], {np.ndarray}) is None
        True
    """

    def __call__(
        self, objects: Sequence[Any], types: set[type], /
    ) -> Sequence[Sparse | None] | None:
        """Return what each object, of these types, stores; None for one that is no sparse array.

        None for all if no object is one. It is asked after `read`, and only of leaves that are no
        batch; an object that it answers with None for goes on to `refuse`.
        """
        ...
