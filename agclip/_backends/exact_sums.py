"""The sums behind the reproducible norm: parts of squares that add up exactly in any order.

`_numerics.exact` defines the norm, and says why the parts are cut as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from agclip._backends import kernels, shapes
from agclip._backends.contract import Grid
from agclip._typing import Array, DType, Namespace

BLOCK = 1 << 21
"""Elements that a block may have for its sums of 32-bit parts to stay below 2**53 units."""

# Widths of the parts in bits, by D (`Grid.bits`).
_WIDTHS = {64: (32, 32), 96: (32, 32, 32)}


def exact_sum(
    xp: Namespace, leaves: Sequence[Array], acc_dtype: DType, grid: Grid, size: int = BLOCK
) -> int:
    """Return Σ RN(s / g) of all elements, an integer in units of the grid's spacing g.

    Sums of blocks of `size` elements are formed by the library, and added as Python integers.

    Example:
        >>> grid = Grid(scale=1.0, unit=4.0**2, order=2, bits=64)
        >>> total = exact_sum(np, [np.asarray([3.0, -4.0])], np.float64, grid)
        >>> total * grid.unit / 2**64
        25.0
    """
    widths = _WIDTHS[grid.bits]
    integer = 0
    for leaf in leaves:
        for block in shapes.pieces(leaf, min(size, BLOCK)):
            below = 0
            parts = sums_of_parts(xp, block, acc_dtype, grid, widths)
            for width, part in zip(widths, parts, strict=True):
                below += width
                integer += int(float(part) / grid.unit * 2.0**below) << (grid.bits - below)
    return integer


def sums_of_parts(
    xp: Namespace,
    rows: Array,
    acc_dtype: DType,
    grid: Grid,
    widths: Sequence[int],
    axes: tuple[int, ...] | None = None,
    fence: Array | None = None,
) -> list[Array]:
    """Return the sums of the parts of s_i, the highest first: each exact in any order."""
    parts = cut(xp, rows, acc_dtype, grid, widths, fence)
    keep = {} if axes is None else {"axis": axes, "keepdims": True}
    sums = parts if axes == () else [xp.sum(part, **keep) for part in parts]
    return halves_added(sums, len(widths))


def cut(
    xp: Namespace,
    x: Array,
    acc_dtype: DType,
    grid: Grid,
    widths: Sequence[int],
    fence: Array | None,
) -> list[Array]:
    """Return the parts of every s_i, the highest first; of complex elements, half by half."""
    parts: list[Array] = []
    for half in kernels.real_parts(xp, x):
        y = kernels.scaled(kernels.cast(xp, half, acc_dtype), grid.scale)
        rest = xp.abs(y) if grid.order == 1 else y * y
        if fence is not None:
            rest = xp.maximum(rest, fence)
        below = 0
        for width in widths:
            below += width
            # The anchor must be a run-time value: a compiler folds (x + C) - C for a constant C.
            anchor = grid.unit * (1.5 * 2.0 ** (52 - below))
            parts.append((rest + anchor) - anchor)
            rest = rest - parts[-1]
    return parts


def halves_added(sums: Sequence[Array], count: int) -> list[Array]:
    """Return the sums of real parts, those of imaginary parts added to them if there are any."""
    if len(sums) == count:
        return list(sums)
    return [a + b for a, b in zip(sums[:count], sums[count:], strict=True)]
