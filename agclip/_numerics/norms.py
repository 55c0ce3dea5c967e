"""Norms that neither overflow nor underflow: of one group of leaves, or along axes.

Squares of float32 and narrower elements are exact in float64 and cannot leave its range, so one sum
is enough. For float64 leaves the plain sum is accepted if it lies in the safe range; otherwise the
elements are scaled by a power of two and read once more (J. L. Blue, "A portable Fortran program to
find the Euclidean norm of a vector", ACM TOMS 4, 1978, with the scale chosen from the sum itself).
Where a device has no float64 the same is done in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from agclip._backends import batch, devices, host_scalars
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._backends.joined import joined
from agclip._numerics import axis_sums
from agclip._numerics.exact import exact_norm
from agclip._numerics.power_norms import power_root, power_scale, unit_of
from agclip._numerics.ranges import RANGES, Norm
from agclip._numerics.rounding import error_along, relative_error
from agclip._typing import Array, DType, Namespace, Scalar


def group_norms(
    backend: Backend,
    m: Namespace,
    leaves: Sequence[Array],
    groups: Sequence[Sequence[int]],
    order: float,
    acc_dtype: DType,
    *,
    reproducible: bool,
) -> list[Norm]:
    """Return the norm of each group, one leaf or all of them, given by their positions.

    The sums of all leaves come from one call of a kernel. `m` is `host_scalars` or the namespace.
    L2 norms of floats carry a bound on their error, for the rounding test. Those of `plain_norms`
    do not come here.
    """
    name = kind_of(acc_dtype).name
    safe = batch.narrow(leaves, name)
    tested = m is host_scalars and order == 2 and safe
    chosen = [batch.chosen(leaves, group) for group in groups]
    if reproducible and order in (1, 2) and not tested:
        return [
            backend.at(members[0], exact_norm, backend, m, members, None, int(order))
            for members in chosen
        ]
    if order != 2:
        return [
            backend.at(members[0], power_norm, backend, m, members, order) for members in chosen
        ]
    found = backend.sum_squares(backend.xp, leaves, acc_dtype, 1.0)
    sums = devices.scalars(backend, m, leaves, found)
    if len(groups) > 1:
        sums = list(sums)  # a backend makes the sum of all of these, and reads no leaf once more
    norms = []
    for group, members in zip(groups, chosen, strict=True):

        def squares(scale: Scalar, members: Sequence[Array] = members) -> Scalar:
            return total(backend, m, sums_of_squares(backend, members, acc_dtype, scale))

        plain = total(backend, m, batch.chosen(sums, group))
        narrow = safe or batch.narrow(members, name)
        norm = backend.at(
            members[0], ranged_root, backend, m, plain, squares, acc_dtype, safe=narrow
        )
        if m is host_scalars and narrow and norm.finite and name == "float64":
            norm = Norm(norm.root, norm.scale, norm.finite, relative_error(backend, members))
        norms.append(norm)
    return norms


def sums_of_squares(
    backend: Backend, leaves: Sequence[Array], acc_dtype: DType, scale: Scalar
) -> Sequence[Scalar]:
    """Return the sums of scaled squares, the scale moved to the device of each leaf."""
    xp = backend.xp
    if isinstance(scale, float):
        return backend.sum_squares(xp, leaves, acc_dtype, scale)

    def on_device(here: Sequence[Array], scalars: Sequence[Scalar]) -> Sequence[Scalar]:
        return devices.scalars(
            backend, xp, here, backend.sum_squares(xp, here, acc_dtype, scalars[0])
        )

    return devices.map_devices(backend, leaves, (scale,), on_device)


def axis_norms(
    backend: Backend,
    leaves: Sequence[Array],
    axes: Sequence[tuple[int, ...]],
    order: float,
    *,
    reproducible: bool,
    tested: bool = False,
) -> Norm:
    """Return the joint norm of leaves along axes of each, with the reduced axes kept as ones.

    Several leaves must agree in the shapes of their sums. With `tested` a plain norm of one leaf
    may stand for the reproducible one: it carries a bound on its error, for the rounding test.
    """
    xp, acc_dtype = backend.xp, backend.acc_dtype(backend.xp, leaves[0])
    safe = batch.narrow(leaves, kind_of(acc_dtype).name)
    tested = tested and safe and order == 2
    if reproducible and order in (1, 2) and not tested:
        return exact_norm(backend, xp, leaves, axes, int(order))
    if order != 2:
        return _axis_power_norm(backend, leaves, axes, order, acc_dtype)

    def squares(scale: Scalar) -> Array:
        return axis_sums.sum_squares(backend, leaves, axes, acc_dtype, scale, closely=not safe)

    norm = ranged_root(backend, xp, squares(1.0), squares, acc_dtype, safe=safe)
    return norm._replace(error=error_along(leaves[0], axes[0])) if tested else norm


def ranged_root(
    backend: Backend,
    m: Namespace,
    plain: Scalar,
    squares: Callable[[Scalar], Scalar],
    acc_dtype: DType,
    *,
    safe: bool,
) -> Norm:
    """Return sqrt(plain), or the root of the scaled squares where the plain sum is out of range.

    Args:
        backend: The backend, for its branch.
        m: `_backends.host_scalars` or the namespace.
        plain: The sum of squares.
        squares: The sum of squares of the elements times a scale.
        acc_dtype: The dtype of the sums.
        safe: Whether the plain sum cannot leave the range.
    """
    if safe:
        return Norm(root_of_sum(m, plain), 1.0, plain < math.inf)
    limits = RANGES[kind_of(acc_dtype).name]
    small, big = plain < limits.low, plain >= math.inf
    ones = m.full_like(plain, 1.0)
    scale = m.where(big, limits.down, m.where(small, limits.up, ones))

    def rescued() -> list[Scalar]:
        return [squares(scale), scale]

    out = small | big
    if m is host_scalars:
        total_, scale = rescued() if out else (plain, 1.0)
    else:
        anywhere = out if plain.ndim == 0 else m.any(out)
        total_, scale = backend.branch(m, anywhere, rescued, lambda: [plain, ones])
    return Norm(root_of_sum(m, total_), scale, total_ < math.inf)


def root_of_sum(m: Namespace, x: Scalar) -> Scalar:
    """Return sqrt(x) with derivative 0, not NaN, at x = 0."""
    positive = x > 0
    return m.where(positive, m.sqrt(m.where(positive, x, 1.0)), x)


def power_norm(backend: Backend, m: Namespace, leaves: Sequence[Array], order: float) -> Norm:
    """Return (Σ|x|^p)^(1/p) with every |x| measured in units of the largest."""
    xp, acc_dtype = backend.xp, backend.acc_dtype(backend.xp, leaves[0])
    if order == 1 and batch.narrow(leaves, kind_of(acc_dtype).name):
        found = backend.power_sums(xp, leaves, acc_dtype, 1.0, 1.0, 1.0)
        norm = total(backend, m, devices.scalars(backend, m, leaves, found))
        return Norm(norm, 1.0, norm < math.inf)
    if m is not host_scalars:
        leaves = joined(backend, leaves)
    peaks = devices.scalars(backend, m, leaves, backend.abs_max(xp, leaves, acc_dtype))
    peak = maximum(backend, m, peaks)
    if order == math.inf and batch.all_real(leaves):
        return Norm(peak, 1.0, peak < math.inf)
    closely = not batch.narrow(leaves, kind_of(acc_dtype).name)
    scale = power_scale(m, peak, acc_dtype) if closely else 1.0
    unit = unit_of(m, peak, scale, order, acc_dtype)

    def on_device(here: Sequence[Array], scalars: Sequence[Scalar]) -> Sequence[Scalar]:
        return backend.power_sums(xp, here, acc_dtype, order, *scalars)

    sums = (
        backend.power_sums(xp, leaves, acc_dtype, order, scale, unit)
        if m is host_scalars
        else devices.map_devices(backend, leaves, (scale, unit), on_device)
    )
    combine = maximum if order == math.inf else total
    sum_ = combine(backend, m, sums)
    return power_root(m, sum_, peak, unit, scale, order, closely=closely)


def _axis_power_norm(
    backend: Backend,
    leaves: Sequence[Array],
    axes: Sequence[tuple[int, ...]],
    order: float,
    acc_dtype: DType,
) -> Norm:
    xp = backend.xp
    peak = axis_sums.abs_max(backend, leaves, axes, acc_dtype)
    if order == math.inf and batch.all_real(leaves):
        return Norm(peak, 1.0, peak < math.inf)
    closely = not batch.narrow(leaves, kind_of(acc_dtype).name)
    scale = power_scale(xp, peak, acc_dtype) if closely else 1.0
    unit = unit_of(xp, peak, scale, order, acc_dtype)
    total_ = axis_sums.power_sums(
        backend, leaves, axes, acc_dtype, order, scale, unit, closely=closely
    )
    return power_root(xp, total_, peak, unit, scale, order, closely=closely)


def total(backend: Backend, m: Namespace, values: Sequence[Scalar]) -> Scalar:
    """Return the sum of scalars: rounded once for floats, on the first one's device for arrays."""
    if m is host_scalars:
        return host_scalars.total(values)
    return devices.total(backend, values)


def maximum(backend: Backend, m: Namespace, values: Sequence[Scalar]) -> Scalar:
    if m is host_scalars:
        return host_scalars.largest(values)
    return devices.maximum(backend, values)
