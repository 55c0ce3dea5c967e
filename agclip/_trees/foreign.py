"""Arrays of another library than the configured one: refused, or taken over and given back.

They go over by DLPack, which copies nothing where both libraries share the memory; otherwise
through the default backend, whose arrays every library can be made of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import array_api_compat

from agclip import config
from agclip._backends import kernels, registry
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._trees import default_backend
from agclip._typing import Array, Device
from agclip_backends import DEFAULT, STORED_IN


def among(types: set[type], asked: str | tuple[str, ...]) -> bool:
    """Tell whether one of the types of arrays is of another library than the configured one."""
    name = asked if isinstance(asked, str) else default_backend.home.backend.name
    name = STORED_IN.get(name, name)
    known = registry.BY_TYPE
    # A class that has left the table, since a backend was registered, is found again leaf by leaf.
    return any(cls not in known or known[cls].name != name for cls in types)


def converts() -> bool:
    """Tell whether arrays of other libraries are to be converted to the configured one."""
    settings = config.current()
    return settings.backend != "auto" and settings.on_foreign == "convert"


def exchanges(x: Any) -> bool:
    """Tell whether an object that is no array is to be read by DLPack.

    Its class is asked: a container may forward what it lacks to the array that it holds.
    """
    cls = type(x)
    return hasattr(cls, "__dlpack__") and hasattr(cls, "__dlpack_device__") and converts()


def exchanged(x: Any, name: str, path: str) -> Array:
    """Return an object that has the methods of DLPack as an array of the configured library.

    On the host it goes through the default backend: another library may end the process over a
    stride below 0 (PyTorch 2.13).
    """
    home, refusals = default_backend.home.backend, []
    for through in (registry.named(DEFAULT), home):
        try:
            with through.context():
                made = through.xp.from_dlpack(x)
            return converted(made, name, path)
        except Exception as error:  # noqa: BLE001 - every library refuses in its own way
            refusals.append(f"{type(error).__name__}: {error}")
    cls = type(x)
    msg = (
        f"`{name}` must hold arrays that can be converted to {home.name}; got one of "
        f"{cls.__module__}.{cls.__qualname__} at {path}, which refuses ({refusals[-1]}). Convert "
        f"it yourself."
    )
    raise TypeError(msg)


def take_over(x: Array, name: str, path: str) -> Array:
    """Return an array of any library as one of the configured library, on its device.

    Raises:
        TypeError: If arrays of other libraries are not to be converted, or this one cannot be.
    """
    owner, settings = _owner(x), config.current()
    if owner.name == default_backend.home.backend.name:
        return x
    if settings.on_foreign == "error":
        msg = (
            f"`{name}` must hold arrays of {default_backend.home.backend.name}, as `backend` says "
            f"({settings.source('backend')}); got one of {owner.name} at {path}. Convert it first, "
            f'or set `on_foreign` to "convert".'
        )
        raise TypeError(msg)
    return converted(x, name, path)


def converted(x: Array, name: str, path: str) -> Array:
    """Return an array of any library as one of the configured library, on its device."""
    home = default_backend.home
    new = _moved(x, _owner(x), home.backend, home.device, name, path)
    _owner(new)  # Its class may be new to the registry.
    return new


def give_back(x: Array, home: Backend, original: Array, *, leaf: bool = True) -> Array:
    """Return an array as the library of another has it, on the device of that.

    Args:
        x: An array of `home`.
        home: The backend it belongs to.
        original: An array of the library that it goes to.
        leaf: Whether it takes the place of `original`: then it has its dtype, and is the same kind
            of object.
    """
    owner = _owner(original)
    new = x
    if owner.name != home.name:
        new = _moved(x, home, owner, _device(original), "the result", "its place")
    with owner.context():
        if leaf:
            # A half type that `home` lacks has been clipped in float32.
            new = owner.restore(original, kernels.cast(owner.xp, new, original.dtype))
        if owner.unwritable(new) is not None and owner.unwritable(original) is None:
            # What came from immutable memory is a copy of nobody else's.
            new = owner.xp.asarray(new, copy=True)
    return new


def _owner(x: Array) -> Backend:
    owner = registry.resolve(x)
    assert owner is not None, "only arrays come here"
    return owner


def _device(x: Array) -> Device | None:
    return array_api_compat.device(x) if hasattr(x, "device") else None


def _moved(
    x: Array, owner: Backend, target: Backend, device: Device | None, name: str, path: str
) -> Array:
    (x,) = owner.read([x], {type(x)})
    if owner.access(x) == "never":
        msg = (
            f"`{name}` must hold values to be converted to {target.name}; got a traced array of "
            f"{owner.name} at {path}. Convert before the compiled function, not inside of it."
        )
        raise TypeError(msg)
    had, refusals = kind_of(x.dtype), []
    for way in _ways(x):
        try:
            with owner.context(), target.context():
                new = way(x, owner, target)
                has = kind_of(new.dtype)
                if has == had or way is _as_float32:
                    here = device is None or _device(new) == device
                    return new if here else array_api_compat.to_device(new, device)
            refusals.append(f"{had.name} becomes {has.name}")
        except Exception as error:  # noqa: BLE001 - every library refuses in its own way
            refusals.append(f"{type(error).__name__}: {error}")
    msg = (
        f"`{name}` must hold arrays that can be converted to {target.name}; got one of "
        f"{owner.name} at {path}, which refuses ({refusals[0]}). Convert it yourself."
    )
    raise TypeError(msg)


def _ways(x: Array) -> Iterator[Callable[[Array, Backend, Backend], Array]]:
    yield _by_dlpack
    yield _by_host
    if kind_of(x.dtype).half:
        yield _as_float32


def _by_dlpack(x: Array, owner: Backend, target: Backend) -> Array:
    return target.xp.from_dlpack(owner.export(x))


def _by_host(x: Array, owner: Backend, target: Backend) -> Array:
    """Go through an array of the default backend: a copy, writable and in native byte order."""
    host = registry.named(DEFAULT).xp
    values = _on_host(x, owner, host)
    native = getattr(host, kind_of(x.dtype).name, values.dtype)
    return target.xp.asarray(host.astype(values, native))


def _on_host(x: Array, owner: Backend, host: Any) -> Array:
    refused = (BufferError, RuntimeError, TypeError, ValueError)
    with contextlib.suppress(*refused):
        return host.asarray(x)
    with contextlib.suppress(*refused):
        # Some copy to the host if DLPack asks for it, and not otherwise (dpnp 0.20).
        return host.from_dlpack(x, device="cpu")
    with contextlib.suppress(*refused):
        return host.asarray(array_api_compat.to_device(x, "cpu"))
    device = owner.xp.__array_namespace_info__().default_device()
    return host.asarray(array_api_compat.to_device(x, device))


def _as_float32(x: Array, owner: Backend, target: Backend) -> Array:
    """Go over as float32, which holds every half type, and back to that if there is one."""
    wide = owner.xp.astype(x, owner.xp.float32)
    new = _moved(wide, owner, target, None, "", "")
    narrow = getattr(target.xp, kind_of(x.dtype).name, new.dtype)
    return target.xp.astype(new, narrow)
