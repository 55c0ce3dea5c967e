"""Scalars of leaves that live on several devices: one transfer per device each way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat

from agclip._backend import Backend
from agclip._typing import Array, Scalar


def reduce(backend: Backend, values: Sequence[Array], combine: Callable[[Any, Any], Any]) -> Scalar:
    """Combine 0-d arrays: within each device first, then on the device of the first one."""
    partial: dict[Any, Array] = {}
    for value in values:
        device = backend.device(value)
        partial[device] = combine(partial[device], value) if device in partial else value
    home, *others = partial
    result: Scalar = partial[home]
    for device in others:
        result = combine(result, array_api_compat.to_device(partial[device], home))
    return result


def spread(
    backend: Backend,
    leaves: Sequence[Array],
    scalars: Sequence[Scalar],
    function: Callable[[Sequence[Array], Sequence[Scalar]], Sequence[Array]],
) -> list[Array]:
    """Call `function(leaves, scalars)` once per device, with the scalars moved there."""
    devices = [backend.device(leaf) for leaf in leaves]
    results: list[Any] = [None] * len(leaves)
    for device in dict.fromkeys(devices):
        places = [i for i, other in enumerate(devices) if other == device]
        moved = [_moved(backend, scalar, device) for scalar in scalars]
        for i, result in zip(places, function([leaves[i] for i in places], moved), strict=True):
            results[i] = result
    return results


def _moved(backend: Backend, scalar: Any, device: Any) -> Any:
    if device is None or not hasattr(scalar, "dtype") or backend.device(scalar) == device:
        return scalar
    return array_api_compat.to_device(scalar, device)
