"""What one rank says of its leaves: sums that stay in range, peaks, powers, limbs.

Pure functions of arrays: a compiler may compile them. A scalar is a float or a 0-d array, as the
call has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip._backends import batch, devices, host_scalars, kernels
from agclip._backends.contract import Grid
from agclip._backends.dtypes import kind_of
from agclip._clipping.plan import StaticArgs
from agclip._numerics import limbs, norms
from agclip._numerics.ranges import RANGES, Norm, Range
from agclip._typing import Array, Namespace, Scalar

_HIGH = {"float64": 2.0**1000, "float32": 2.0**100}
"""Plain sums are sent below this, so that those of 2**23 ranks do not overflow."""


ASIDE = 2.0**-900
"""What the number of elements is multiplied by that travels in the place of a sum."""


class Part(NamedTuple):
    """Leaves of one group that are reduced over the same links, and held as often."""

    group: int
    joint: bool
    """Whether the group is that of all leaves."""
    key: frozenset[int]
    often: int
    places: tuple[int, ...]


def zero(call: StaticArgs, arrays: Sequence[Array]) -> Scalar:
    """Return 0 as a scalar of the call."""
    if call.host:
        return 0.0
    backend, first = call.backend, arrays[0]
    return backend.at(first, kernels.number, backend.xp, 0.0, call.acc_dtype, backend.device(first))


def sums(
    call: StaticArgs,
    parts: Sequence[Part],
    widths: Sequence[int],
    tested: bool,
    arrays: Sequence[Array],
) -> list[Scalar]:
    """Return for each part its sum of squares, or of magnitudes: as one number, or as three.

    Three are the sum of elements scaled down, plain, and scaled up: two of them are zero. For the
    rounding test the last is the number of elements: see `joined`.
    """
    backend, m, order = call.backend, call.m, int(call.plan.order)
    xp, acc_dtype, none = backend.xp, call.acc_dtype, zero(call, arrays)
    if order == 1:
        found = backend.power_sums(xp, arrays, acc_dtype, 1.0, 1.0, 1.0)
    else:
        found = backend.sum_squares(xp, arrays, acc_dtype, 1.0)
    each = devices.scalars(backend, m, arrays, found)
    result: list[Scalar] = []
    for part, width in zip(parts, widths, strict=True):
        values: Sequence[Scalar] = [none] * width
        if part.places:
            plain = norms.total(backend, m, [each[k] for k in part.places])
            members = batch.chosen(arrays, part.places)
            values = [plain] if width == 1 else _in_range(call, members, plain, order)
            if tested and part.joint and 0.0 < plain < math.inf:
                values = [none, plain, ASIDE * batch.elements(members)]
        result += values if part.often == 1 else [value / part.often for value in values]
    return result


def _in_range(
    call: StaticArgs, members: Sequence[Array], plain: Scalar, order: int
) -> list[Scalar]:
    backend, m, acc_dtype = call.backend, call.m, call.acc_dtype
    name = kind_of(acc_dtype).name
    none = m.full_like(plain, 0.0)
    if batch.narrow(members, name):
        return [none, plain, none]
    limits = RANGES[name]
    big, small = plain >= _HIGH[name], plain < limits.low
    out = big | small
    scale = m.where(big, limits.down, m.where(small, limits.up, m.full_like(plain, 1.0)))

    def rescued() -> list[Scalar]:
        return [_scaled_sum(call, members, order, scale)]

    if m is host_scalars:
        (found,) = rescued() if out else [plain]
    else:
        (found,) = backend.branch(m, out, rescued, lambda: [plain])
    return [m.where(big, found, none), m.where(out, none, found), m.where(small, found, none)]


def _scaled_sum(call: StaticArgs, members: Sequence[Array], order: int, scale: Scalar) -> Scalar:
    backend, m, acc_dtype = call.backend, call.m, call.acc_dtype
    if order == 2:
        found = norms.sums_of_squares(backend, members, acc_dtype, scale)
        return norms.total(backend, m, found)
    return norms.total(backend, m, _powers(call, members, 1.0, scale, 1.0))


def _powers(
    call: StaticArgs, members: Sequence[Array], order: float, scale: Scalar, unit: Scalar
) -> Sequence[Scalar]:
    backend, acc_dtype = call.backend, call.acc_dtype
    if call.m is host_scalars:
        return backend.power_sums(backend.xp, members, acc_dtype, order, scale, unit)

    def on_device(here: Sequence[Array], moved: Sequence[Scalar]) -> Sequence[Scalar]:
        return backend.power_sums(backend.xp, here, acc_dtype, order, *moved)

    return devices.map_devices(backend, members, (scale, unit), on_device)


def joined(m: Namespace, columns: Sequence[Scalar], limits: Range, order: int) -> Norm:
    """Return the norm from one sum, or from the sums of elements scaled down, plain, scaled up.

    Beside a plain sum that is not 0 the last is nothing that a sum of float32 elements, which is
    at least 2**-298, would see: so a number of elements times `ASIDE` may take its place.
    """
    if len(columns) == 1:
        total, scale = columns[0], 1.0
    else:
        down, plain, up = columns
        together = plain + up * (1.0 / limits.up) ** order
        big, some = m.not_equal(down, 0.0), m.not_equal(plain, 0.0)
        above = down + together * limits.down**order
        total = m.where(big, above, m.where(some, together, up))
        one = m.full_like(plain, 1.0)
        least = m.where(m.not_equal(up, 0.0), limits.up, one)
        scale = m.where(big, limits.down, m.where(some, one, least))
    finite = total < math.inf
    return Norm(norms.root_of_sum(m, total) if order == 2 else total, scale, finite)


def peaks(call: StaticArgs, parts: Sequence[Part], arrays: Sequence[Array]) -> list[Scalar]:
    """Return for each part its largest |x|; of order inf that, and 0 or it scaled down beside it.

    Of complex elements it is the larger part, of order inf the modulus, which may be beyond.
    """
    backend, m, order = call.backend, call.m, call.plan.order
    xp, acc_dtype, none = backend.xp, call.acc_dtype, zero(call, arrays)
    each = devices.scalars(backend, m, arrays, backend.abs_max(xp, arrays, acc_dtype))
    result: list[Scalar] = []
    for part in parts:
        if not part.places:
            result += [none, none] if order == math.inf else [none]
            continue
        top = norms.maximum(backend, m, [each[k] for k in part.places])
        members = batch.chosen(arrays, part.places)
        if order != math.inf:
            result.append(top)
        elif batch.all_real(members):
            result += [top, m.full_like(top, 0.0)]
        else:
            found = backend.at(members[0], norms.power_norm, backend, m, members, order)
            result += _moduli(call, found)
    return result


def _moduli(call: StaticArgs, norm: Norm) -> list[Scalar]:
    m, down = call.m, RANGES[kind_of(call.acc_dtype).name].down
    none, one = m.full_like(norm.root, 0.0), m.full_like(norm.root, 1.0)
    scale = one * norm.scale
    big = m.equal(scale, down)
    return [m.where(big, none, norm.root / m.where(big, one, scale)), m.where(big, norm.root, none)]


def largest(m: Namespace, plain: Scalar, scaled: Scalar, limits: Range) -> Norm:
    """Return the norm of order inf from the two maxima of `peaks`."""
    big = m.not_equal(scaled, 0.0) & m.equal(plain, plain)
    one = m.full_like(plain, 1.0)
    root = m.where(big, m.maximum(scaled, plain * limits.down), plain)
    return Norm(root, m.where(big, limits.down, one), root < math.inf)


def power_sums(
    call: StaticArgs,
    parts: Sequence[Part],
    arrays: Sequence[Array],
    units: Sequence[tuple[Scalar, Scalar]],
) -> list[Scalar]:
    """Return for each part the sum of powers, in the scale and unit of its group."""
    backend, m, none = call.backend, call.m, zero(call, arrays)
    result: list[Scalar] = []
    for part in parts:
        value = none
        if part.places:
            members = batch.chosen(arrays, part.places)
            found = _powers(call, members, call.plan.order, *units[part.group])
            value = norms.total(backend, m, found)
        result.append(value if part.often == 1 else value / part.often)
    return result


def limb_sums(
    call: StaticArgs,
    parts: Sequence[Part],
    bits: int,
    arrays: Sequence[Array],
    tops: Sequence[Scalar],
) -> list[Scalar]:
    """Return for each part the sum that defines the reproducible norm, as limbs."""
    backend, m, order = call.backend, call.m, int(call.plan.order)
    none = zero(call, arrays)
    result: list[Scalar] = []
    for part in parts:
        top: Any = tops[part.group]
        if not part.places or (m is host_scalars and not (math.isfinite(top) and top > 0)):
            result += [none] * limbs.COUNT
            continue
        members = batch.chosen(arrays, part.places)
        if m is not host_scalars and isinstance(top, float):
            top = none + top
        grid: Grid = limbs.grid_from(m, top, order, bits)
        of = limbs.of_floats if m is host_scalars else limbs.of_arrays
        result += backend.at(members[0], of, backend, members, call.acc_dtype, grid, part.often)
    return result
