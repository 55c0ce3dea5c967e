"""The types of the contract: what each kernel is given and returns, and how programs are called.

Every kernel takes the namespace of the Array API standard first. `leaves` are arrays of one library
with a real or complex floating-point dtype, of any shape, empty and non-contiguous ones included,
and on one device for kernels that say so. `acc_dtype` is the dtype that sums are formed in:
float64, or float32 where the device has none. A value per leaf is a Python float where
`Backend.access` of the leaves is "free", else a 0-d array on the leaf's device in `acc_dtype`. No
kernel changes its arguments but `ScaleInPlace`, and `Clip` where it is asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from agclip._backends.batch import LeafBatch
from agclip._typing import Array, DType, Namespace, Scalar
from agclip_backends._memory import Memory

R = TypeVar("R")

Elementwise = Callable[[Array], Sequence[Array]]
"""An elementwise function of a leaf, which makes one or more arrays of its shape."""

Thunk = Callable[[], Sequence[Array]]
"""One side of a conditional. Both return as many arrays, of the same shapes and dtypes."""


class Grid(NamedTuple):
    """What the elements of a reproducible norm are measured with: see `_numerics.exact`."""

    scale: Scalar
    """t, which elements are multiplied by."""
    unit: Scalar
    """P to the power of the order: a part of w bits is a multiple of unit·2^-w."""
    order: int
    bits: int
    """D: the number of bits below the unit that are kept."""


class Factor(NamedTuple):
    """A coefficient as the product `pre * rest`, so that no representable result is lost.

    `pre` is a power of two, or None for one; the two together reach below the smallest normal
    number of the leaf. `narrow` is for leaves multiplied in float32, `wide` for float64 leaves.
    Each part is a Python float, a 0-d array, or an array that broadcasts against the leaf.

    Example:
        >>> factor = Factor(narrow=(None, 0.5), wide=(None, 0.5))
        >>> factor.wide
        (None, 0.5)
    """

    narrow: tuple[Scalar | None, Scalar]
    wide: tuple[Scalar | None, Scalar]


class Misplaced(NamedTuple):
    """What `Backend.misplaced` has found among leaves."""

    position: int
    found: str
    """What it is, with an article."""
    instead: str
    """A sentence on what to pass."""
    wrong: bool
    """Whether nothing else can be meant; otherwise only one norm of all leaves is worth a word."""


class SumSquares(Protocol):
    """The sum of squares of each leaf: the one read on which most clips decide."""

    def __call__(
        self, xp: Namespace, leaves: Sequence[Array], acc_dtype: DType, scale: Scalar, /
    ) -> Sequence[Scalar]:
        """Return Σ (scale·|x|)² of each leaf, formed in `acc_dtype`; 0 of an empty leaf.

        Widen first, then multiply by `scale`, then square. Of complex elements both parts are
        squared. NaN and infinities come through.

        Args:
            xp: The namespace.
            leaves: The leaves.
            acc_dtype: The dtype of the sums.
            scale: The Python float 1.0, or a power of two as a float or a 0-d array.
        """
        ...


class AbsMax(Protocol):
    """The largest magnitude in each leaf."""

    def __call__(
        self, xp: Namespace, leaves: Sequence[Array], acc_dtype: DType, /
    ) -> Sequence[Scalar]:
        """Return max |x| of each leaf: 0 of an empty one, NaN if an element is.

        Of a complex leaf it is the larger of max |Re x| and max |Im x|.
        """
        ...


class PowerSums(Protocol):
    """The sum of powers of each leaf, for norms of another order than 2."""

    def __call__(
        self,
        xp: Namespace,
        leaves: Sequence[Array],
        acc_dtype: DType,
        p: float,
        scale: Scalar,
        unit: Scalar,
        /,
    ) -> Sequence[Scalar]:
        """Return Σ (scale·|x| / unit)^p of each leaf, |x| the modulus; for p = inf the maximum.

        Args:
            xp: The namespace.
            leaves: The leaves.
            acc_dtype: The dtype of the sums.
            p: The order, > 0.
            scale: A power of two.
            unit: What brings scale·|x| to at most one: a power of two, or the largest scale·|x|.
        """
        ...


class Sums(Protocol):
    """Sums of what an elementwise function makes of each leaf."""

    def __call__(
        self, xp: Namespace, leaves: Sequence[Array], function: Elementwise, /
    ) -> Sequence[Sequence[Scalar]]:
        """Return, for each leaf, the sum of each of the arrays that the function makes of it."""
        ...


class Total(Protocol):
    """The sum of scalars."""

    def __call__(self, xp: Namespace, values: Sequence[Array], /) -> Scalar:
        """Return the sum of 0-d arrays that are on one device: at least one."""
        ...


class ExactSum(Protocol):
    """The sum behind the reproducible norm, of leaves that can be read at no cost."""

    def __call__(
        self, xp: Namespace, leaves: Sequence[Array], acc_dtype: DType, grid: Grid, /
    ) -> int:
        """Return Σ RN(s / g) over all elements, an integer in units of the spacing g of the grid.

        s is (grid.scale·x)², or |grid.scale·x| if `grid.order` is 1; g = grid.unit · 2^-grid.bits;
        RN rounds to the nearest integer, half to even. Of complex elements both parts count. All
        elements are finite, and s <= grid.unit.
        """
        ...


class Clip(Protocol):
    """Elementwise clipping of real leaves, each between two numbers."""

    def __call__(
        self,
        xp: Namespace,
        leaves: Sequence[Array],
        lows: Sequence[float],
        highs: Sequence[float],
        inplace: bool,
        /,
    ) -> Sequence[Array] | None:
        """Return min(max(x, low), high) of each leaf, NaN left alone; None to decline.

        Args:
            xp: The namespace.
            leaves: Real leaves.
            lows: A bound of each leaf, representable in its dtype; -inf for none.
            highs: Likewise; inf for none.
            inplace: Whether the leaves are overwritten, and returned.
        """
        ...


class Scale(Protocol):
    """The product of leaves and a coefficient, in new arrays."""

    def __call__(
        self, xp: Namespace, leaves: Sequence[Array], factor: Factor, /
    ) -> Sequence[Array]:
        """Return each leaf times the factor, in its own dtype.

        A float64 leaf is multiplied by `factor.wide`; any other by `factor.narrow` in float32,
        and rounded to its dtype once. Both parts of complex elements are multiplied.
        """
        ...


class ScaleInPlace(Protocol):
    """The product of leaves and a coefficient, written over the leaves."""

    def __call__(self, xp: Namespace, leaves: Sequence[Array], factor: Factor, /) -> None:
        """Overwrite each leaf with what `Scale` returns; no two leaves are the same memory."""
        ...


class ScaleEach(Protocol):
    """The products of leaves in host memory, each with a coefficient of its own."""

    def __call__(
        self, xp: Namespace, leaves: Sequence[Array], factors: Sequence[Factor], inplace: bool, /
    ) -> Sequence[Array] | None:
        """Return what `Scale` does for each, or overwrite them likewise; None to decline."""
        ...


class Sqrt(Protocol):
    """The square root."""

    def __call__(self, xp: Namespace, x: Array, /) -> Array:
        """Return the correctly rounded square root of an array x >= 0 in the accumulation dtype."""
        ...


class ScalarLike(Protocol):
    """A Python number as an array."""

    def __call__(self, xp: Namespace, value: float, dtype: DType, x: Array, /) -> Array:
        """Return a number of Python's, or a bool, as a new 0-d array on the device of x."""
        ...


class Branch(Protocol):
    """A conditional on a value that the program may not be able to read."""

    def __call__(
        self, xp: Namespace, predicate: Array, if_true: Thunk, if_false: Thunk, /
    ) -> Sequence[Array]:
        """Return the arrays of one of two thunks.

        An eager library tests the predicate, a 0-d boolean; a compiler has a conditional; a
        selection from both sides serves everything else.
        """
        ...


class Survey(Protocol):
    """All leaves looked at in one pass."""

    def __call__(
        self, leaves: Sequence[Array], types: set[type], inplace: bool, /
    ) -> LeafBatch | None:
        """Return the leaves with their columns if all are ordinary arrays; None to decline.

        Ordinary arrays are dense, can be read at no cost (`access` "free"), and overwritten if
        `inplace`; they are not asked for `refuse`, `unwritable` and `access`. Leaves of which one
        is not are asked one by one, which gives the error messages.

        Args:
            leaves: The leaves: at least one.
            types: Their types.
            inplace: Whether they are going to be overwritten. Then the batch says whether it is
                certain that no two share memory.
        """
        ...


class Places(Protocol):
    """Where arrays lie in memory."""

    def __call__(self, leaves: Sequence[Array], /) -> Sequence[Memory | None] | None:
        """Return the place of each leaf: address, strides and element size, all in bytes.

        None stands for a leaf whose place is not known, and for all if no two share memory.
        """
        ...


class At(Protocol):
    """How a function is called on the device of an array."""

    def __call__(
        self, x: Array, function: Callable[..., Any], /, *arguments: Any, **options: Any
    ) -> Any:
        """Return `function(*arguments, **options)`, called where x is."""
        ...


class FindMisplaced(Protocol):
    """Parameters in the place of gradients."""

    def __call__(self, leaves: Sequence[Any], types: set[type], /) -> Misplaced | None:
        """Return the first leaf, of these types, that is a parameter or holds some; None if none.

        Objects that are no arrays are asked about too, where nothing else takes them.
        """
        ...


class Run(Protocol):
    """How a backend calls a pure program; what it returns has the type that the program returns."""

    def __call__(
        self, program: Callable[..., R], static: tuple[Any, ...], arrays: tuple[Any, ...], /
    ) -> R:
        """Return `program(*static, *arrays)`; a compiler may key its cache on `static`."""
        ...
