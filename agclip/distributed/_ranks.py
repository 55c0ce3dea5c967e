"""Where the other parts of a tree are: over which links, and how often each part is held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from agclip._typing import Array, Namespace

Op: TypeAlias = Literal["sum", "max"]

AllReduce: TypeAlias = Callable[[Any, Array, Op], Array]
"""`(communicator, vector, op)` → the elementwise sum or maximum of the vectors of all ranks.

A vector is a 1-d array of few float64, of the leaves' library; what is returned holds as many
numbers, in an array or a list, and is the same on every rank.
"""


class Engine(NamedTuple):
    """What moves vectors between processes: an entry point of the group `agclip.communicators`.

    Example:
        >>> class Alone: ...
        >>> engine = Engine(
        ...     accepts=lambda comm: isinstance(comm, Alone),
        ...     all_reduce=lambda comm, vector, op: vector,
        ... )
        >>> engine.accepts(Alone())
        True
    """

    accepts: Callable[[Any], bool]
    """Tells whether an object is a communicator of this engine."""
    all_reduce: AllReduce
    """`(communicator, vector, "sum" or "max")` → the reduced vector, the same on every rank."""
    host: Callable[[Any], bool] | None = None
    """Tells whether a communicator's ranks hold arrays in host memory, as a rule, and all of them
    alike. Then `reproducible` begins with the vector of the default. None for no."""


class Link(NamedTuple):
    """A communicator, and how vectors are reduced over it.

    Example:
        >>> link = Link(all_reduce=lambda comm, vector, op: 2 * vector, comm="a twin")
        >>> link.all_reduce(link.comm, np.asarray([25.0]), "sum")
        array([50.])
    """

    all_reduce: AllReduce
    """That of the engine."""
    comm: Any
    """The communicator."""


class Ranks(NamedTuple):
    """Where the other parts of the leaves are: a part of the plan of a call."""

    links: tuple[Link | str, ...] = ()
    """Links in the order in which vectors are reduced over them; names are axes of a mesh.

    Those that types of leaves have told come first, those of the caller last. None: the call is
    local.
    """
    common: frozenset[int] = frozenset()
    """The caller's links, by position: over these every rank has its own leaves."""
    cuts: tuple[frozenset[int], ...] | None = None
    """For each leaf the links over which it is cut; None if types have told nothing."""
    replicas: tuple[int, ...] | None = None
    """For each leaf on how many ranks of the caller's links this part of it is held; 0 is another
    rank's to count. None for one each."""
    held: float = 0.0
    """Σ h / replicas over the leaves, modulo one, with an integer h for each path: over all ranks a
    whole number if `replicas` says who holds what."""
    facts: tuple[Any, ...] = ()
    """What has to be the same on every rank, besides the plan and its numbers."""
    given: tuple[Link | str, ...] = ()
    """The caller's links, whatever types have told: the same on every rank."""

    @property
    def inside(self) -> bool:
        """Whether vectors are reduced by the program itself, over the axes of a mesh."""
        return any(isinstance(link, str) for link in self.links)

    def cut(self, leaf: int) -> frozenset[int]:
        """Return the links over which a leaf is cut."""
        return frozenset() if self.cuts is None else self.cuts[leaf]

    def times(self, leaf: int) -> int:
        """Return on how many ranks of the caller's links a leaf is held."""
        return 1 if self.replicas is None else self.replicas[leaf]


class Parts(NamedTuple):
    """What `Backend.parts` has found: of each leaf what is here, and where the rest is.

    Example:
        >>> link = Link(all_reduce=lambda comm, vector, op: 2 * vector, comm="a twin")
        >>> parts = Parts(here=[np.ones(3)], cuts=[(link,)])
        >>> [len(links) for links in parts.cuts]
        [1]
    """

    here: list[Any]
    """For each leaf the array that this process holds."""
    cuts: list[tuple[Link | str, ...]]
    """For each leaf the links over which it is cut, the same links in the same order everywhere."""
    measured: list[Any] | None = None
    """What norms are taken of, where that is not `here`: sums that had to be formed."""
    refused: tuple[int, str] | None = None
    """The position of a leaf that cannot be clipped by its parts, and what it is."""
    rejoin: Callable[[Any, Array], Any] | None = None
    """`(leaf, new)` → a new part as the kind of object that the leaf is; None if parts are that."""
    axes: tuple[str, ...] = ()
    """The axes of a mesh that types may speak of."""
    unsure: tuple[int, str] | None = None
    """The position of a leaf whose cuts cannot be trusted, and what it is."""


class FindParts(Protocol):
    """What of some leaves is here, where they are cut over processes.

    Example:
        >>> kernel = agclip.get_backend("numpy").parts
        >>> kernel([np.ones(2)], {np.ndarray}) is None
        True
    """

    def __call__(self, leaves: Sequence[Any], types: set[type], /) -> Parts | None:
        """Return what is here of each leaf, and over which links or axes the rest is.

        None if all leaves are whole, or their types do not tell.
        """
        ...


class AllReduceAxes(Protocol):
    """Sums or maxima of scalars over axes of a mesh.

    Example:
        >>> sizes = {"data": 4}  # all devices along an axis hold the same number
        >>> def all_reduce(xp, values, axes, op):
        ...     times = math.prod(sizes[axis] for axis in axes) if op == "sum" else 1
        ...     return [times * value for value in values]
        >>> [float(x) for x in all_reduce(np, [np.asarray(25.0)], ("data",), "sum")]
        [100.0]
    """

    def __call__(
        self, xp: Namespace, values: Sequence[Array], axes: tuple[str, ...], op: Op, /
    ) -> Sequence[Array]:
        """Return 0-d arrays, each reduced over named axes: all of them in one operation."""
        ...
