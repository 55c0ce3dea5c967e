"""The types of what a backend is asked about leaves, and of how it calls programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from agclip._backends.batch import LeafBatch
from agclip._typing import Array, Namespace
from agclip_backends._memory import Memory

R = TypeVar("R")

Thunk = Callable[[], Sequence[Array]]
"""One side of a conditional. Both return as many arrays, of the same shapes and dtypes."""


class Misplaced(NamedTuple):
    """What `Backend.misplaced` has found among leaves.

    Example:
        >>> Misplaced(0, "a weight", "Pass its gradient.", wrong=True).position
        0
    """

    position: int
    """Which leaf it is, counted from 0."""
    found: str
    """What it is, with an article."""
    instead: str
    """A sentence on what to pass."""
    wrong: bool
    """Whether nothing else can be meant; otherwise only one norm of all leaves is worth a word."""


class Survey(Protocol):
    """All leaves looked at in one pass.

    Example:
        >>> kernel = agclip.get_backend("numpy").survey
        >>> batch = kernel([np.ones(3), np.ones(2)], {np.ndarray}, False)
        >>> [*batch.counts], batch.access
        ([3, 2], 'free')
    """

    def __call__(
        self, leaves: Sequence[Array], types: set[type], inplace: bool, /
    ) -> LeafBatch | None:
        """Return the leaves with their columns if all are ordinary arrays; None to decline.

        Ordinary arrays are dense, can be read at no cost (`access` "free"), and overwritten if
        `inplace`; they are not asked for `refuse`, `unwritable` and `access`. Leaves of which one
        is not are asked one by one, which gives the error messages. Where they are "free" to read,
        `sum_squares` and `scalar_like` may be called on them outside of `Backend.run`.

        Args:
            leaves: The leaves: at least one.
            types: Their types.
            inplace: Whether they are going to be overwritten. Then the batch says whether it is
                certain that no two share memory.
        """
        ...


class Places(Protocol):
    """Where arrays lie in memory.

    Example:
        >>> kernel, whole = agclip.get_backend("numpy").memory, np.ones((2, 3))
        >>> first, second = kernel([whole, whole[1]])
        >>> second.address - first.address, first.strides, first.itemsize
        (24, (24, 8), 8)
    """

    def __call__(self, leaves: Sequence[Array], /) -> Sequence[Memory | None] | None:
        """Return the place of each leaf: address, strides and element size, all in bytes.

        None stands for a leaf whose place is not known, and for all if no two share memory.
        """
        ...


class At(Protocol):
    """How a function is called on the device of an array.

    Example:
        >>> kernel = agclip.get_backend("numpy").at
        >>> kernel(np.ones(3), max, 1.0, 2.0)
        2.0
    """

    def __call__(
        self, x: Array, function: Callable[..., Any], /, *arguments: Any, **options: Any
    ) -> Any:
        """Return `function(*arguments, **options)`, called where x is."""
        ...


class FindMisplaced(Protocol):
    """Parameters in the place of gradients.

    Example:
        >>> class Weight: ...
        >>> def misplaced(leaves, types):
        ...     for i, leaf in enumerate(leaves if Weight in types else ()):
        ...         if isinstance(leaf, Weight):
        ...             return Misplaced(i, "a weight", "Pass its gradient.", wrong=True)
        >>> misplaced([Weight()], {Weight}).found
        'a weight'
    """

    def __call__(self, leaves: Sequence[Any], types: set[type], /) -> Misplaced | None:
        """Return the first leaf, of these types, that is a parameter or holds some; None if none.

        Objects that are no arrays are asked about too, where nothing else takes them.
        """
        ...


class Branch(Protocol):
    """A conditional on a value that the program may not be able to read.

    Example:
        >>> kernel = agclip.get_backend("numpy").branch
        >>> kernel(np, np.asarray(True), lambda: [np.ones(1)], lambda: [np.zeros(1)])
        [array([1.])]
    """

    def __call__(
        self, xp: Namespace, predicate: Array, if_true: Thunk, if_false: Thunk, /
    ) -> Sequence[Array]:
        """Return the arrays of one of two thunks.

        An eager library tests the predicate, a 0-d boolean; a compiler has a conditional; a
        selection from both sides serves everything else.
        """
        ...


class Run(Protocol):
    """How a backend calls a pure program; what it returns has the type that the program returns.

    Example:
        >>> kernel = agclip.get_backend("numpy").run
        >>> kernel(lambda axis, x: x.sum(axis), (0,), (np.ones((2, 3)),))
        array([2., 2., 2.])
    """

    def __call__(
        self, program: Callable[..., R], static: tuple[Any, ...], arrays: tuple[Any, ...], /
    ) -> R:
        """Return `program(*static, *arrays)`; a compiler may key its cache on `static`."""
        ...
