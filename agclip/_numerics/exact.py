"""The reproducible norm: an exact sum of terms that are rounded to one grid.

With m the largest |x| of all elements (of both parts of complex ones), P the smallest power of two
that is not below t·m, and t a power of two that is 1 unless a float64 m is extreme:

    s_i = (t·x_i)²             exact for float32 and narrower, rounded once for float64
    S   = Σ RN(s_i to a multiple of g),   g = P²·2^-D,   D = 64, or 96 if a leaf is float64
    n   = RN(sqrt(RN(S))) / t

Every summand depends on x_i and P alone, P is a maximum, and S is an integer times g that is summed
exactly: no order, chunking, thread count or library can change a bit. To find the integer, every
s_i is cut into parts of few bits, whose sums are exact in float64 in any order (S. M. Rump,
T. Ogita, S. Oishi, "Accurate floating-point summation part I: faithful rounding", SIAM J. Sci.
Comput. 31, 2008; J. Demmel, H. D. Nguyen, "Parallel reproducible summation", IEEE Trans. Computers
64, 2015). The norm of order 1 is defined alike: s_i = t·|x_i|, g = P·2^-D, and no root.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agclip._backends import batch, devices, host_scalars, powers
from agclip._backends.backend import Backend
from agclip._backends.contract import Grid
from agclip._backends.exact_sums import cut, halves_added, sums_of_parts
from agclip._backends.joined import joined
from agclip._numerics import axis_sums
from agclip._numerics.ranges import RANGES, Norm
from agclip._typing import Array, DType, Namespace, Scalar

# Widths of the parts in bits, by D, for up to 2**32 elements at once.
_AT_ONCE = {64: (21, 21, 22), 96: (19, 20, 20, 19, 18)}

# A float64 peak beyond these is scaled: its square, or the grid below it, would leave the range.
_HUGE, _MINUTE = 2.0**480, 2.0**-450

_FENCE = 2.0**-1000
"""Below half of every g, so that the maximum with it changes no result: it keeps a compiler from
contracting the square and the sum after it into one operation with one rounding."""


def exact_norm(
    backend: Backend,
    m: Namespace,
    leaves: Sequence[Array],
    axes: Sequence[tuple[int, ...]] | None,
    order: int,
) -> Norm:
    """Return the norm of a group of leaves as defined above.

    Args:
        backend: The backend of the leaves; their device must have float64.
        m: `_backends.host_scalars` where values can be read for nothing, else the namespace.
        leaves: The leaves of one group.
        axes: For each leaf the axes of the norm, which stay as ones; None for one norm of all.
        order: 1 or 2.
    """
    bits = 96 if batch.double(leaves) else 64
    if m is host_scalars:
        return _of_floats(backend, leaves, order, bits)
    return _of_arrays(backend, leaves, axes, order, bits)


def _of_floats(backend: Backend, leaves: Sequence[Array], order: int, bits: int) -> Norm:
    """Sum blocks on the device, and the blocks' sums as Python integers."""
    xp, acc_dtype = backend.xp, backend.acc_dtype(backend.xp, leaves[0])
    peak = host_scalars.largest(backend.abs_max(xp, leaves, acc_dtype))
    if peak == 0 or not math.isfinite(peak):
        return Norm(peak, 1.0, math.isfinite(peak))
    grid = grid_of(peak, order, bits)
    value = rounded_integer(backend.exact_sum(xp, leaves, acc_dtype, grid), grid)
    return Norm(math.sqrt(value) if order == 2 else value, grid.scale, True)


def grid_of(peak: float, order: int, bits: int) -> Grid:
    """Return what elements are measured with, from the largest, which is finite and not 0."""
    scale = _scale(host_scalars, peak, bits)
    scaled = peak * scale
    power = math.ldexp(0.5, math.frexp(scaled)[1])
    unit = (power if power == scaled else 2.0 * power) ** order
    return Grid(scale, unit, order, bits)


def rounded_integer(integer: int, grid: Grid) -> float:
    """Return a multiple of the grid as a float64."""
    limbs = (integer >> 104, integer >> 52 & 2**52 - 1, integer & 2**52 - 1)
    value: float = rounded(limbs, grid.unit, grid.bits)
    return value


def rounded(limbs: Sequence[Scalar], unit: Scalar, bits: int) -> Scalar:
    """Return limbs of 52 bits, the highest first, as a float64 multiple of the grid."""
    quantum = unit * 2.0**-bits
    high, middle, low = (limb * quantum for limb in limbs)
    return (high * 2.0**104 + middle * 2.0**52) + low


def _scale(m: Namespace, peak: Scalar, bits: int) -> Scalar:
    if bits == 64:
        return 1.0
    limits = RANGES["float64"]
    one = m.full_like(peak, 1.0)
    return m.where(peak >= _HUGE, limits.down, m.where(peak < _MINUTE, limits.up, one))


def _of_arrays(
    backend: Backend,
    leaves: Sequence[Array],
    axes: Sequence[tuple[int, ...]] | None,
    order: int,
    bits: int,
) -> Norm:
    """Sum whole leaves, and carry between the parts in floating point, exactly."""
    xp, acc_dtype = backend.xp, backend.acc_dtype(backend.xp, leaves[0])
    if axes is None:
        leaves = joined(backend, leaves)  # the sum is the same in any order
        peaks = devices.scalars(backend, xp, leaves, backend.abs_max(xp, leaves, acc_dtype))
        peak = devices.maximum(backend, peaks)
    else:
        peak = axis_sums.abs_max(backend, leaves, axes, acc_dtype)
    finite = xp.isfinite(peak)
    ordinary = finite & (peak > 0)
    one = xp.full_like(peak, 1.0)
    grid = grid_of_array(xp, xp.where(ordinary, peak, one), order, bits)
    if axes is None:
        sums = sums_of_all(backend, leaves, acc_dtype, grid)
    else:
        sums = _sums_along(backend, leaves, axes, acc_dtype, grid)
    value = _carried(xp, sums, grid)
    if order == 2:
        value = backend.sqrt(xp, xp.where(value > 0, value, one))
    return Norm(xp.where(ordinary, value, peak), grid.scale, finite)


def grid_of_array(xp: Namespace, peak: Array, order: int, bits: int) -> Grid:
    """Return the same as `grid_of` in arrays."""
    scale = _scale(xp, peak, bits)
    power = powers.next_power(xp, peak * scale, 53)
    return Grid(scale, power * power if order == 2 else power, order, bits)


def sums_of_all(
    backend: Backend, leaves: Sequence[Array], acc_dtype: DType, grid: Grid
) -> list[Array]:
    """Return the sums of the parts of all elements, the highest first."""
    xp = backend.xp

    def on_device(members: Sequence[Array], moved: Sequence[Scalar]) -> Sequence[Array]:
        here = Grid(moved[0], moved[1], grid.order, grid.bits)
        fence = xp.full_like(here.unit, _FENCE) if grid.bits == 96 else None
        widths = _AT_ONCE[grid.bits]
        found = backend.sums(xp, members, lambda x: cut(xp, x, acc_dtype, here, widths, fence))
        return [halves_added(sums, len(widths)) for sums in found]

    parts = devices.map_devices(backend, leaves, (grid.scale, grid.unit), on_device)
    return [devices.reduce(backend, column, axis_sums.add) for column in zip(*parts, strict=True)]


def _sums_along(
    backend: Backend,
    leaves: Sequence[Array],
    axes: Sequence[tuple[int, ...]],
    acc_dtype: DType,
    grid: Grid,
) -> list[Array]:
    xp, widths = backend.xp, _AT_ONCE[grid.bits]

    def part(k: int) -> Array:
        def of_rows(rows: Array, along: tuple[int, ...], scale: Scalar, unit: Array) -> Array:
            here = Grid(scale, unit, grid.order, grid.bits)
            fence = xp.full_like(unit, _FENCE) if grid.bits == 96 else None
            return sums_of_parts(xp, rows, acc_dtype, here, widths, along, fence)[k]

        return axis_sums.over(
            backend, leaves, axes, of_rows, axis_sums.add, (grid.scale, grid.unit)
        )

    return [part(k) for k in range(len(widths))]


def _carried(xp: Namespace, sums: Sequence[Array], grid: Grid) -> Array:
    """Return Σ of the parts as one float64, rounded as `rounded` does, without integers."""
    return rounded(limbs_of(xp, sums, grid)[::-1], grid.unit, grid.bits)


def limbs_of(xp: Namespace, sums: Sequence[Array], grid: Grid) -> list[Array]:
    """Return Σ of the parts in limbs of 52 bits, the lowest first, without integers.

    From the lowest part upwards each keeps as many bits as it is wide, and carries the others on.
    A part and what is carried to it stay within 2**53, so all is exact. Few operations: a compiler
    takes seconds for every hundred.
    """
    limbs = [xp.zeros_like(grid.unit)] * 3
    place, carry = 0, None
    for width, part in zip(reversed(_AT_ONCE[grid.bits]), reversed(sums), strict=True):
        digit = part / grid.unit * 2.0 ** (grid.bits - place)
        if carry is not None:
            digit = digit + carry
        top = place + width
        if top < grid.bits:
            carry, digit = split(xp, digit, width)
        limb, start = divmod(place, 52)
        if top == grid.bits or start + width > 52:
            high, digit = split(xp, digit, 52 - start)
            limbs[limb + 1] = limbs[limb + 1] + high
        limbs[limb] = limbs[limb] + digit * 2.0**start
        place = top
    return limbs


def split(xp: Namespace, x: Array, bits: int) -> tuple[Array, Array]:
    """Return floor(x / 2**bits) and the rest, which is not negative."""
    high = xp.floor(x * 2.0**-bits)
    return high, x - high * 2.0**bits
