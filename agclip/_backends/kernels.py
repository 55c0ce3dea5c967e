"""The default kernels: complete programs in standard calls, one value or one array a leaf.

A library that follows the standard needs no others; an adapter replaces those worth replacing.
Every kernel takes the namespace first. `acc_dtype` is the dtype that sums are formed in: float64
where the leaves' device has it, else float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import array_api_compat

from agclip._backends import shapes
from agclip._backends.contract import Factor
from agclip._backends.dtypes import complex_dtype, kind_of, real_dtype
from agclip._typing import Access, Array, Device, DType, Namespace, Scalar

R = TypeVar("R")


def sum_squares(
    xp: Namespace, leaves: Sequence[Array], acc_dtype: DType, scale: Scalar
) -> Sequence[Scalar]:
    """Return Σ (scale·|x|)², formed in `acc_dtype`, for each leaf; 0 for an empty one.

    Example:
        >>> [float(x) for x in sum_squares(np, [np.asarray([3.0, -4.0])], np.float64, 1.0)]
        [25.0]
    """
    return [_sum_of_parts(xp, leaf, acc_dtype, scale) for leaf in leaves]


def _sum_of_parts(xp: Namespace, leaf: Array, acc_dtype: DType, scale: Scalar) -> Scalar:
    parts = (scaled(cast(xp, part, acc_dtype), scale) for part in real_parts(xp, leaf))
    sums = [xp.sum(y * y) for y in parts]
    return sums[0] if len(sums) == 1 else sums[0] + sums[1]


def sums(
    xp: Namespace, leaves: Sequence[Array], function: Callable[[Array], Sequence[Array]]
) -> Sequence[Sequence[Scalar]]:
    """Return, for each leaf, the sums of the arrays that an elementwise function makes of it.

    Example:
        >>> ((one, other),) = sums(np, [np.asarray([3.0, -4.0])], lambda x: (abs(x), x * x))
        >>> float(one), float(other)
        (7.0, 25.0)
    """
    return [[xp.sum(y) for y in function(leaf)] for leaf in leaves]


def abs_max(xp: Namespace, leaves: Sequence[Array], acc_dtype: DType) -> Sequence[Scalar]:
    """Return max |x| in `acc_dtype` of each leaf, NaN if an element is; complex: of both parts.

    Example:
        >>> [float(x) for x in abs_max(np, [np.asarray([3.0, -4.0])], np.float64)]
        [4.0]
    """
    maxima = []
    for leaf in leaves:
        parts = [peak(xp, xp.abs(cast(xp, part, acc_dtype))) for part in real_parts(xp, leaf)]
        maxima.append(parts[0] if len(parts) == 1 else xp.maximum(parts[0], parts[1]))
    return maxima


def peak(xp: Namespace, y: Array, axes: tuple[int, ...] | None = None) -> Array:
    """Return the maximum of non-negative elements; along axes, these stay as ones; 0 of none."""
    keep: dict[str, Any] = {} if axes is None else {"axis": axes, "keepdims": True}
    if axes == ():
        return y
    lengths = shapes.known_shape(y)
    reduced = lengths if axes is None or lengths is None else [lengths[axis] for axis in axes]
    if reduced is None or any(length is None for length in reduced):
        # Where a length is not known yet, the maximum of no elements is the least number.
        largest = xp.max(y, **keep)
        return xp.where(largest < 0, xp.zeros_like(largest), largest)
    return xp.sum(y, **keep) if 0 in reduced else xp.max(y, **keep)


def least(xp: Namespace, y: Array) -> Array:
    """Return the minimum; 1 of no elements."""
    return xp.min(y) if 0 not in y.shape else xp.sum(y) + 1.0


def power(xp: Namespace, y: Array, p: float) -> Array:
    """Return y ** p for y >= 0, with derivative 0 at y = 0."""
    if p >= 1:
        return y if p == 1 else y**p
    positive = y > 0
    return xp.where(positive, xp.where(positive, y, xp.ones_like(y)) ** p, y)


def magnitudes(xp: Namespace, leaf: Array, acc_dtype: DType, scale: Scalar, unit: Scalar) -> Array:
    """Return scale·|x| / unit elementwise in `acc_dtype`."""
    if kind_of(leaf.dtype).family == "complex":
        wide = complex_dtype(xp, acc_dtype)
        if wide is None:
            return _modulus(xp, leaf, acc_dtype, scale, unit)
        y = cast(xp, leaf, wide)
        y = y if is_one(scale) else y * alike(xp, scale, y)
        return xp.abs(y if is_one(unit) else y / alike(xp, unit, y))
    y = xp.abs(scaled(cast(xp, leaf, acc_dtype), scale))
    return y if is_one(unit) else y / unit


def _modulus(xp: Namespace, leaf: Array, acc_dtype: DType, scale: Scalar, unit: Scalar) -> Array:
    """Return the same of a complex leaf by its parts, whose squares do not leave the range."""
    ys = [scaled(cast(xp, part, acc_dtype), scale) for part in real_parts(xp, leaf)]
    a, b = ys if is_one(unit) else [y / unit for y in ys]
    square = a * a + b * b
    positive = square > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, square, xp.ones_like(square))), square)


def total(_: Namespace, values: Sequence[Array]) -> Scalar:
    """Return the sum of 0-d arrays, added in pairs, and pairs of these.

    Example:
        >>> float(total(np, [np.asarray(1.0), np.asarray(2.0), np.asarray(4.0)]))
        7.0
    """
    while len(values) > 1:
        odd = values[len(values) - len(values) % 2 :]
        pairs = zip(values[::2], values[1::2], strict=False)
        values = [*(a + b for a, b in pairs), *odd]
    return values[0]


def scale(xp: Namespace, leaves: Sequence[Array], factor: Factor) -> list[Array]:
    """Return each leaf times the factor: multiplied in float32 for half types, rounded once.

    Example:
        >>> factor = Factor(narrow=(None, 0.5), wide=(None, 0.5))
        >>> [float(x[0]) for x in scale(np, [np.asarray([3.0])], factor)]
        [1.5]
    """
    return [_scale_leaf(xp, leaf, factor) for leaf in leaves]


def _scale_leaf(xp: Namespace, leaf: Array, factor: Factor) -> Array:
    kind = kind_of(leaf.dtype)
    pre, rest = factor.wide if kind.precision == 53 else factor.narrow
    y = xp.astype(leaf, xp.float32) if kind.half else leaf
    real = real_dtype(xp, kind)
    for part in (pre, rest):
        if part is not None:
            y = y * (part if isinstance(part, float) else cast(xp, part, real))
    return cast(xp, y, leaf.dtype)


def scale_(xp: Namespace, leaves: Sequence[Array], factor: Factor) -> None:
    """Multiply each leaf by the factor in place."""
    for leaf in leaves:
        write(leaf, _scale_leaf(xp, leaf, factor))


def write(leaf: Array, values: Any) -> None:
    """Overwrite every element of a leaf."""
    target: Any = leaf
    target[...] = values


def select(
    xp: Namespace,
    predicate: Array,
    if_true: Callable[[], Sequence[Array]],
    if_false: Callable[[], Sequence[Array]],
) -> list[Array]:
    """Choose without reading the predicate: both sides are computed, `where` picks.

    Example:
        >>> yes, no = [np.asarray([1.0])], [np.asarray([2.0])]
        >>> [float(x[0]) for x in select(np, np.asarray(True), lambda: yes, lambda: no)]
        [1.0]
    """
    return [xp.where(predicate, a, b) for a, b in zip(if_true(), if_false(), strict=True)]


def sqrt(xp: Namespace, x: Array) -> Array:
    """Return the square root, which the standard wants correctly rounded."""
    return xp.sqrt(x)


def access(_: Array) -> Access:
    """Return the cautious answer: reading may cost a synchronisation."""
    return "sync"


def nothing(*_: Any) -> None:
    """Return None: there is nothing to report, or no faster way than the general one."""


def read(objects: Sequence[Any], _: set[type]) -> Sequence[Any]:
    """Return the objects themselves: arrays are what most libraries have."""
    return objects


def device(x: Array) -> Device:
    """Return the device of an array; None if its library does not speak of devices."""
    return array_api_compat.device(x) if hasattr(x, "device") else None


def accumulation_dtype(xp: Namespace, x: Array) -> DType:
    """Return float64 if the array's device has it, else float32."""
    info = xp.__array_namespace_info__()
    reals = info.dtypes(device=device(x), kind="real floating")
    return reals.get("float64", xp.float32)


def restore(_: Any, new: Array) -> Any:
    """Return the new array: an array takes the place of an array."""
    return new


def run(program: Callable[..., R], static: tuple[Any, ...], arrays: tuple[Any, ...]) -> R:
    """Call a pure program of arrays. `static` is hashable: a compiler may key its cache on it."""
    return program(*static, *arrays)


def cast(xp: Namespace, x: Array, dtype: DType) -> Array:
    """Return x in a dtype, x itself if it has it already.

    Example:
        >>> x = np.ones(2, np.float32)
        >>> cast(np, x, np.float32) is x, cast(np, x, np.float64).dtype.name
        (True, 'float64')
    """
    return x if x.dtype == dtype else xp.astype(x, dtype)


def computable(xp: Namespace, x: Array) -> Array:
    """Return x itself, or a float8 as float32: exactly, and not every library compares float8."""
    return xp.astype(x, xp.float32) if kind_of(x.dtype).stored else x


def real_parts(xp: Namespace, leaf: Array) -> tuple[Array, ...]:
    """Return a real leaf itself, or the real and imaginary parts of a complex one.

    Example:
        >>> [float(x[0]) for x in real_parts(np, np.asarray([3.0 - 4.0j]))]
        [3.0, -4.0]
    """
    if kind_of(leaf.dtype).family == "complex":
        return xp.real(leaf), xp.imag(leaf)
    return (leaf,)


def number(xp: Namespace, value: Any, dtype: DType, device: Device) -> Array:
    """Return a Python number as a 0-d array, nested lists of them as a larger one.

    A number is filled in on the device: one that is made on the host is copied there, and the host
    waits for the copy. The device is None for a library that knows none.

    Example:
        >>> number(np, 2.5, np.float32, None).shape
        ()
    """
    where: dict[str, Any] = {} if device is None else {"device": device}
    if isinstance(value, (list, tuple)):
        made: Array = xp.asarray(value, dtype=dtype, **where)
    else:
        made = xp.full((), value, dtype=dtype, **where)
    return made


def scalar_like(xp: Namespace, value: float, dtype: DType, x: Array) -> Array:
    """Return a Python number or bool as a 0-d array on the device of x."""
    return number(xp, value, dtype, device(x))


def is_one(x: Scalar) -> bool:
    """Tell whether a scalar is the Python float 1.0: no array is read.

    Example:
        >>> is_one(1.0), is_one(np.asarray(1.0))
        (True, False)
    """
    return isinstance(x, float) and x == 1.0


def scaled(x: Array, factor: Scalar) -> Array:
    """Return x times a factor, x itself if the factor is the Python float 1.0.

    Example:
        >>> x = np.asarray([3.0])
        >>> scaled(x, 1.0) is x, float(scaled(x, 2.0)[0])
        (True, 6.0)
    """
    return x if is_one(factor) else x * factor


def alike(xp: Namespace, factor: Scalar, x: Array) -> Scalar:
    """Return a real factor of x in the dtype of x: not every library multiplies complex by real."""
    return factor if isinstance(factor, float) else cast(xp, factor, x.dtype)
