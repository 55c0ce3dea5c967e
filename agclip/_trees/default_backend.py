"""The backend of arrays that agclip makes itself, and the device: the first usable one configured.

`home` is an attribute of this module, found at access (PEP 562): a compiler that traces Python can
read it, but cannot follow the look for libraries and devices.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from agclip import config
from agclip._backends import listing, registry
from agclip._backends.backend import Backend
from agclip._typing import Array, Device
from agclip_backends import DEFAULT


class Home(NamedTuple):
    """Where arrays are made."""

    backend: Backend
    device: Device | None
    """None for the library's own choice."""


def __getattr__(name: str) -> Home:
    if name != "home":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return _find(config.current())


def _find(settings: config.Settings) -> Home:
    given = settings.backend
    asked = given if isinstance(given, tuple) else (DEFAULT if given == "auto" else given,)
    reasons = []
    for name in asked:
        reason = registry.why_not(name)
        if not reason:
            backend = registry.named(name)
            try:
                return Home(backend, device_of(backend, settings))
            except ValueError as error:
                reason = str(error)
        reasons.append(f"{name}: {reason.rstrip('.')}")
    usable = ", ".join(row.name for row in listing.backends() if row.usable)
    msg = (
        f"`backend` must name a backend that can be used here; got {given!r} "
        f"({settings.source('backend')}). {'; '.join(reasons)}. Usable: {usable}."
    )
    raise RuntimeError(msg)


def get_backend(name: str | None = None) -> Backend:
    """Return the backend of a name, ready for use.

    Args:
        name: A name that `backends()` lists, or that of a library that follows the standard; None
            for the backend that is configured, or the first usable one of those.

    Returns:
        The record; `get_backend(name).xp` is its array namespace.

    Raises:
        TypeError: If `name` is not a string.
        ValueError: If no installed distribution brings a backend of that name.
        ImportError: If its library is not installed, or its adapter does not load.
        RuntimeError: If its library is installed but cannot be used here, or is blocked.

    Example:
        >>> agclip.get_backend("numpy").xp.ones(2)
        array([1., 1.])
    """
    return __getattr__("home").backend if name is None else registry.named(name)


def device_of(backend: Backend, settings: config.Settings) -> Device | None:
    """Return the configured device of a library; None for the library's own choice.

    Raises:
        ValueError: If the library has no such device here.
    """
    if settings.device is None:
        return None
    found = _named(backend, settings.device)
    if found is None:
        said = f"{settings.device!r} ({settings.source('device')})"
        msg = f"`device` must name one that {backend.name} has here; got {said}."
        raise ValueError(msg)
    return found


@functools.lru_cache(maxsize=64)
def _named(backend: Backend, name: str) -> Device | None:
    return backend.named_device(backend.xp, name)


def make(x: Any, dtype: str | None = None) -> Array:
    """Return an array of the configured backend, its dtype given by name."""
    backend, device = __getattr__("home")
    where = {} if device is None else {"device": device}
    with backend.context():
        kind = None if dtype is None else getattr(backend.xp, dtype)
        made: Array = backend.xp.asarray(x, dtype=kind, **where)
    return made
