"""The contract of clips by norms in few launches: what a backend is told, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from agclip._typing import Array, NonFinite, Scalar


class Terms(NamedTuple):
    """What a clip by norms does, apart from its numbers.

    Example:
        >>> Terms(joint=False, policy="zero").order
        2.0
    """

    joint: bool = True
    """One norm over all leaves; otherwise each leaf on its own."""
    order: float = 2.0
    """That of the norm."""
    policy: NonFinite = "propagate"
    """What becomes of a group that is not finite, "propagate", "zero" or "skip"."""
    shrink: tuple[float, float, float, float] | None = None
    """Factor on the bound for a strict one, for leaves of float16, bfloat16, float32 and float64,
    the parts of complex ones included; the first one where all leaves are one group. None for a
    plain bound."""
    weights: tuple[float, ...] | None = None
    """For each leaf what the bound is multiplied by, where each leaf is a group."""
    eps: float = 0.0
    """What is added to the norm n where the bound c is divided by it. The bound is c·n / (n + eps),
    so that all leaves are multiplied by min(c / (n + eps), 1); where n is 0 or not finite it is c.
    """
    norm: Scalar | None = None
    """The norm of all leaves where it is known, and none is taken. A float >= 0, or a 0-d array, of
    which a negative one counts as 0. There are no loss scale and no record then."""
    limit: Callable[[Array], Scalar] | None = None
    """`(norm)` → the bound, where it follows from the norm of all leaves, which `Decided.norm` is;
    None where it is the one that is given."""


class Details(NamedTuple):
    """What a clip has done: 0-d arrays of the leaves' library, of which none has been read.

    Example:
        >>> norm, yes, no = np.asarray(5.0), np.asarray(True), np.asarray(False)
        >>> details = Details(norm, [norm], scale=np.asarray(0.2), clipped=yes, nonfinite=no)
        >>> float(details.norm * details.scale)
        1.0
    """

    norm: Array
    """The norm of all leaves before clipping, without the loss scale."""
    leaf_norms: list[Array] | Callable[[], list[Array]]
    """The norm of each leaf, likewise; or what makes them, which is called if somebody looks."""
    scale: Array
    """The smallest number a group has been multiplied by, the loss scale aside."""
    clipped: Array
    """Whether a finite group exceeded its bound."""
    nonfinite: Array
    """Whether a group held a NaN or an infinity."""
    threshold: Array | None = None
    """The bound as it was given, in the dtype of sums, if it comes with the others; None to have
    the core make an array of it."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A clip that a backend has measured and decided: no leaf has been written yet.

    Example:
        >>> leaf, norm = np.asarray([3.0, 4.0]), np.asarray(5.0)
        >>> def overwrite():
        ...     leaf[...] /= norm
        >>> Decided(norm, None, new=lambda: [leaf / norm], overwrite=overwrite).new()
        [array([0.6, 0.8])]
    """

    norm: Array | None
    """The norm of all leaves before clipping, without the loss scale, 0-d, in the widest of float32
    and the leaves' real dtypes; None where each leaf is a group."""
    details: Details | None
    """What has been done, if a record was asked for."""
    new: Callable[[], list[Array]]
    """`()` → new leaves; called once, and only if the leaves are not to be overwritten."""
    overwrite: Callable[[], None]
    """`()` → None, the leaves overwritten, memory that is among them twice once; likewise."""


class Fused(Protocol):
    """How a backend clips by norms in few launches, where it can.

    Example:
        >>> kernel = agclip.get_backend("numpy").fused  # no launches: it declines
        >>> kernel([np.ones(2)], Terms(), 1.0, None, False, False) is None
        True
    """

    def __call__(
        self,
        leaves: Sequence[Array],
        terms: Terms,
        bound: Scalar,
        loss_scale: Scalar | None,
        inplace: bool,
        record: bool,
        /,
    ) -> Decided | None:
        """Return the decision on a clip; None, and nothing done, to have it made kernel by kernel.

        Args:
            leaves: The leaves, at least one; their values are not free to read.
            terms: What is done.
            bound: A float >= 0, or a 0-d array; negative elements count as 0.
            loss_scale: What the leaves come in multiplied by, likewise; None for one.
            inplace: Whether the leaves are going to be overwritten.
            record: Whether `Decided.details` are wanted.
        """
        ...
