"""Arrays that agclip makes itself: in the library that is configured, on the device configured."""

from __future__ import annotations

from typing import Any

import array_api_compat

from agclip import config
from agclip._backends import kernels, registry
from agclip._backends.backend import Backend
from agclip._trees import default_backend, foreign
from agclip._typing import Array, DType, Namespace


def namespace() -> Namespace:
    """Return the array namespace that is configured: write a loop with it, and swap it by a word.

    Returns:
        The namespace, of the Python Array API standard, of the first backend of the setting
        `backend` that can be used here and has the configured device; NumPy's for "auto".

    Raises:
        RuntimeError: If none of them can be used. The message has the reasons, and what can be.
        ValueError: If the configuration is wrong.

    Example:
        >>> with agclip.config_context(backend="numpy"):
        ...     xp = agclip.namespace()
        >>> xp.ones(2)
        array([1., 1.])
    """
    return default_backend.home.backend.xp


def asarray(x: Any, dtype: DType | str | None = None) -> Array:
    """Return an array of the configured library, on the configured device.

    Args:
        x: Numbers, nested lists of numbers, or an array of any library: with the setting `backend`
            at "auto" it stays in its own. Memory may be shared.
        dtype: A dtype of the library, or its name, such as "float32", which means the same in all;
            None for the library's choice.

    Returns:
        The array.

    Raises:
        RuntimeError: If no configured backend can be used here.
        TypeError: If an array cannot be converted to the configured library.
        ValueError: If the library has no dtype of that name, or the configuration is wrong.

    Example:
        >>> with agclip.config_context(backend="numpy"):
        ...     agclip.asarray([3, 4], dtype="float32")
        array([3., 4.], dtype=float32)
    """
    x, owner = registry.resolved(x)
    if owner is not None:
        return _of_array(x, owner, dtype)
    backend, device = default_backend.home
    where: dict[str, Any] = {} if device is None else {"device": device}
    if dtype is None:
        return backend.xp.asarray(x, **where)
    with backend.context():
        return backend.xp.asarray(x, dtype=_dtype(backend, dtype), **where)


def _of_array(x: Array, owner: Backend, dtype: DType | str | None) -> Array:
    settings = config.current()
    if settings.backend != "auto":
        backend, device = default_backend.home
        if owner.name != backend.name:
            x = foreign.converted(x, "x", "x")
    else:
        backend = owner
        device = default_backend.device_of(owner, settings)
    with backend.context():
        if device is not None and array_api_compat.device(x) != device:
            x = array_api_compat.to_device(x, device)
        return x if dtype is None else kernels.cast(backend.xp, x, _dtype(backend, dtype))


def _dtype(backend: Backend, dtype: DType | str) -> DType:
    if not isinstance(dtype, str):
        return dtype
    found = getattr(backend.xp, dtype, None)
    if found is None:
        msg = f"`dtype` must be a dtype of {backend.name}, or the name of one; got {dtype!r}."
        raise ValueError(msg)
    return found
