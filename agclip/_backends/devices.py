"""Scalars of leaves that live on several devices: one transfer per device each way."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat

from agclip._backends import batch, host_scalars, kernels
from agclip._backends.backend import Backend
from agclip._typing import Array, Device, DType, Namespace, Scalar


def _distinct(devices: Sequence[Device]) -> list[Device]:
    """Return each device once. The standard lets devices be compared, but not hashed."""
    found: list[Device] = []
    for device in devices:
        # Mostly it is the one before, or there are none: `any` takes ten times as long.
        if not (found and device is found[-1]) and not any(device == other for other in found):
            found.append(device)
    return found


def reduce(backend: Backend, values: Sequence[Array], combine: Callable[[Any, Any], Any]) -> Scalar:
    """Combine 0-d arrays: within each device first, then on the device of the first one."""
    devices = [backend.device(value) for value in values]
    result: Any = None
    for device in _distinct(devices):
        here = [value for value, other in zip(values, devices, strict=True) if other == device]
        partial = backend.at(here[0], functools.reduce, combine, here)
        if result is None:
            result = partial
        else:
            moved = to_device(backend, partial, devices[0])
            result = backend.at(result, combine, result, moved)
    return result


def maximum(backend: Backend, values: Sequence[Array]) -> Scalar:
    """Return the largest of 0-d arrays, NaN if one is, on the device of the first one."""
    xp = backend.xp
    if len(values) > 2 and all(backend.access(value) == "sync" for value in values):
        devices = [backend.device(value) for value in values]
        if devices.count(devices[0]) == len(devices):
            return xp.max(xp.stack(list(values)))
    return reduce(backend, values, xp.maximum)


def anywhere(backend: Backend, facts: Sequence[Array]) -> Array:
    """Tell whether one of some 0-d booleans is true, on the device of the first one."""
    return reduce(backend, facts, lambda a, b: a | b)


def scalars(
    backend: Backend, m: Namespace, leaves: Sequence[Array], values: Sequence[Scalar]
) -> Sequence[Scalar]:
    """Return what a kernel found as scalars of the arithmetic: it may give floats where it can."""
    if m is host_scalars:
        return values
    if isinstance(values, list) and float not in set(map(type, values)):
        return values
    xp = backend.xp
    return [
        backend.at(
            leaf, kernels.number, xp, value, backend.acc_dtype(xp, leaf), backend.device(leaf)
        )
        if type(value) is float  # a scalar of NumPy's is one by inheritance
        else value
        for leaf, value in zip(leaves, values, strict=True)
    ]


def constant(backend: Backend, value: float, dtype: DType, leaf: Array) -> Scalar:
    """Return a number as a 0-d array of a floating-point dtype, on the device of a leaf."""
    xp, device = backend.xp, backend.device(leaf)
    if compiled_around(backend, leaf):
        return kernels.number(xp, 1, dtype, device) * value
    return backend.at(leaf, kernels.number, xp, value, dtype, device)


def compiled_around(backend: Backend, leaf: Array) -> bool:
    """Tell whether numbers must come in by products: see `constant`.

    torch.compile would compile anew for every number that `asarray` is given. A library that
    compiles by itself sees a constant, and might flush the product to zero.
    """
    return backend.access(leaf) == "never" and backend.run is kernels.run


def total(backend: Backend, values: Sequence[Array]) -> Scalar:
    """Add up 0-d arrays: within each device by the backend, then on the device of the first one."""
    devices = [backend.device(value) for value in values]
    if devices.count(devices[0]) == len(devices):
        return backend.total(backend.xp, values)
    sums = [
        backend.total(
            backend.xp, batch.chosen(values, [i for i, d in enumerate(devices) if d == device])
        )
        for device in _distinct(devices)
    ]
    return reduce(backend, sums, lambda a, b: a + b)


def map_devices(
    backend: Backend,
    leaves: Sequence[Array],
    scalars: Sequence[Scalar],
    function: Callable[[Sequence[Array], Sequence[Scalar]], Sequence[Array]],
) -> list[Array]:
    """Call `function(leaves, scalars)` once per device, with the scalars moved there."""
    devices = [backend.device(leaf) for leaf in leaves]
    results: list[Array] = [None] * len(leaves)
    for device in _distinct(devices):
        places = [i for i, other in enumerate(devices) if other == device]
        moved = [to_device(backend, scalar, device) for scalar in scalars]
        # A batch of leaves in host memory is for kernels that take floats.
        whole = len(places) == len(leaves) and batch.access(leaves) in ("sync", "never")
        here = leaves if whole else [leaves[i] for i in places]
        for i, result in zip(places, backend.at(here[0], function, here, moved), strict=True):
            results[i] = result
    return results


def to_device(backend: Backend, scalar: Any, device: Device) -> Any:
    """Return a scalar on a device; numbers, and scalars that are there already, as they are.

    Raises:
        TypeError: If the library moves nothing from one device to another.
    """
    if device is None or scalar is None or isinstance(scalar, float):
        return scalar
    here = backend.device(scalar)
    if here == device:
        return scalar
    move = getattr(backend.xp, "to_device", array_api_compat.to_device)
    try:
        return move(scalar, device)
    except AttributeError as error:
        # The standard wants the method, and some libraries lack it (cubed 0.27).
        if error.name != "to_device":
            raise
        msg = (
            f"the arrays of a call must be on one device where {backend.name} moves none to "
            f"another; got {here} and {device}. Make them on the same, or clip them in calls of "
            f"their own."
        )
        raise TypeError(msg) from None
