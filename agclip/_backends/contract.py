"""The types of the contract: what each kernel is given and returns.

Every kernel takes the namespace of the Array API standard first. `leaves` are arrays of one library
with a real or complex floating-point dtype, of any shape, empty and non-contiguous ones included,
and on one device for kernels that say so. `acc_dtype` is the dtype that sums are formed in:
float64, or float32 where the device has none. A value per leaf is a Python float where
`Backend.access` of the leaves is "free", else a 0-d array on the leaf's device in `acc_dtype`. No
kernel changes its arguments but `ScaleInPlace`, and `Clip` where it is asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from agclip._typing import Array, DType, Namespace, Scalar

Elementwise = Callable[[Array], Sequence[Array]]
"""An elementwise function of a leaf, which makes one or more arrays of its shape."""


class Grid(NamedTuple):
    """What the elements of a reproducible norm are measured with: see `_numerics.exact`.

    Example:
        >>> grid = Grid(scale=1.0, unit=1.0, order=2, bits=64)
        >>> exact_sum(np, [np.asarray([0.5])], np.float64, grid) == 2**64 // 4
        True
    """

    scale: Scalar
    """t, which elements are multiplied by."""
    unit: Scalar
    """P to the power of the order; a part of w bits is a multiple of unit·2^-w."""
    order: int
    """That of the norm, 1 or 2."""
    bits: int
    """The number of bits below the unit that are kept, D."""


class Factor(NamedTuple):
    """A coefficient as the product `pre * rest`, so that no representable result is lost.

    `pre` is a power of two, or None for one; the two together reach below the smallest normal
    number of the leaf. Each part is a Python float, a 0-d array, or an array that broadcasts
    against the leaf.

    Example:
        >>> factor = Factor(narrow=(None, 0.5), wide=(None, 0.5))
        >>> factor.wide
        (None, 0.5)
    """

    narrow: tuple[Scalar | None, Scalar]
    """The pair for leaves that are multiplied in float32."""
    wide: tuple[Scalar | None, Scalar]
    """The pair for float64 leaves."""


class SumSquares(Protocol):
    """The sum of squares of each leaf: the one read on which most clips decide.

    Example:
        >>> kernel = agclip.get_backend("numpy").sum_squares
        >>> kernel(np, [np.asarray([3.0, -4.0])], np.float64, 1.0)
        [25.0]
    """

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
    """The largest magnitude in each leaf.

    Example:
        >>> kernel = agclip.get_backend("numpy").abs_max
        >>> [float(x) for x in kernel(np, [np.asarray([3.0, -4.0])], np.float64)]
        [4.0]
    """

    def __call__(
        self, xp: Namespace, leaves: Sequence[Array], acc_dtype: DType, /
    ) -> Sequence[Scalar]:
        """Return max |x| of each leaf: 0 of an empty one, NaN if an element is.

        Of a complex leaf it is the larger of max |Re x| and max |Im x|.
        """
        ...


class PowerSums(Protocol):
    """The sum of powers of each leaf, for norms of another order than 2.

    Example:
        >>> kernel = agclip.get_backend("numpy").power_sums
        >>> kernel(np, [np.asarray([3.0, -4.0])], np.float64, 3.0, 1.0, 1.0)
        [91.0]
    """

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
    """Sums of what an elementwise function makes of each leaf.

    Example:
        >>> kernel = agclip.get_backend("numpy").sums
        >>> ((total,),) = kernel(np, [np.asarray([3.0, -4.0])], lambda x: [abs(x)])
        >>> float(total)
        7.0
    """

    def __call__(
        self, xp: Namespace, leaves: Sequence[Array], function: Elementwise, /
    ) -> Sequence[Sequence[Scalar]]:
        """Return, for each leaf, the sum of each of the arrays that the function makes of it."""
        ...


class Total(Protocol):
    """The sum of scalars.

    Example:
        >>> kernel = agclip.get_backend("numpy").total
        >>> float(kernel(np, [1.0, 2.0]))
        3.0
    """

    def __call__(self, xp: Namespace, values: Sequence[Array], /) -> Scalar:
        """Return the sum of 0-d arrays that are on one device: at least one."""
        ...


class ExactSum(Protocol):
    """The sum behind the reproducible norm, of leaves that can be read at no cost.

    Example:
        >>> kernel, one = agclip.get_backend("numpy").exact_sum, np.asarray([1.0])
        >>> kernel(np, [one, one], np.float64, Grid(1.0, 1.0, 2, 64)) == 2 * 2**64
        True
    """

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
    """Elementwise clipping of real leaves, each between two numbers.

    Example:
        >>> def clip(xp, leaves, lows, highs, inplace):
        ...     bounds = zip(leaves, lows, highs)
        ...     return None if inplace else [xp.clip(x, a, b) for x, a, b in bounds]
        >>> clip(np, [np.asarray([3.0, -4.0])], [-1.0], [1.0], False)
        [array([ 1., -1.])]
    """

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
    """The product of leaves and a coefficient, in new arrays.

    Example:
        >>> kernel, half = agclip.get_backend("numpy").scale, (None, 0.5)
        >>> kernel(np, [np.asarray([3.0, -4.0])], Factor(narrow=half, wide=half))
        [array([ 1.5, -2. ])]
    """

    def __call__(
        self, xp: Namespace, leaves: Sequence[Array], factor: Factor, /
    ) -> Sequence[Array]:
        """Return each leaf times the factor, in its own dtype.

        A float64 leaf is multiplied by `factor.wide`; any other by `factor.narrow` in float32,
        and rounded to its dtype once. Both parts of complex elements are multiplied.
        """
        ...


class ScaleInPlace(Protocol):
    """The product of leaves and a coefficient, written over the leaves.

    Example:
        >>> kernel, half = agclip.get_backend("numpy").scale_, (None, 0.5)
        >>> leaf = np.asarray([3.0, -4.0])
        >>> kernel(np, [leaf], Factor(narrow=half, wide=half))
        >>> leaf
        array([ 1.5, -2. ])
    """

    def __call__(self, xp: Namespace, leaves: Sequence[Array], factor: Factor, /) -> None:
        """Overwrite each leaf with what `Scale` returns; no two leaves are the same memory."""
        ...


class ScaleEach(Protocol):
    """The products of leaves in host memory, each with a coefficient of its own.

    Example:
        >>> kernel, half = agclip.get_backend("numpy").scale_each, (None, 0.5)
        >>> kernel(np, [np.ones(1), np.ones(1)], [Factor(half, half)] * 2, False)
        [array([0.5]), array([0.5])]
    """

    def __call__(
        self, xp: Namespace, leaves: Sequence[Array], factors: Sequence[Factor], inplace: bool, /
    ) -> Sequence[Array] | None:
        """Return what `Scale` does for each, or overwrite them likewise; None to decline."""
        ...


class Sqrt(Protocol):
    """The square root.

    Example:
        >>> kernel = agclip.get_backend("numpy").sqrt
        >>> float(kernel(np, np.asarray(25.0)))
        5.0
    """

    def __call__(self, xp: Namespace, x: Array, /) -> Array:
        """Return the correctly rounded square root of an array x >= 0 in the accumulation dtype."""
        ...


class ScalarLike(Protocol):
    """A Python number as an array.

    Example:
        >>> kernel = agclip.get_backend("numpy").scalar_like
        >>> kernel(np, 5.0, np.float64, np.ones(3))
        array(5.)
    """

    def __call__(self, xp: Namespace, value: float, dtype: DType, x: Array, /) -> Array:
        """Return a number of Python's, or a bool, as a new 0-d array on the device of x."""
        ...
