"""Which backend an array belongs to.

The key is the top-level package that defines the array's class, found along its MRO: a subclass
belongs to its parent's library, and an adapter is loaded only when its library is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from typing import Any

from agclip import _checks
from agclip._backends import entry_points, kernels
from agclip._backends.backend import Backend
from agclip._backends.dtypes import learn_dtypes
from agclip._backends.requirements import guarded
from agclip._typing import Array
from agclip_backends import STORED_IN

_registered = entry_points.registered
BY_TYPE: dict[type, Backend] = {}
"""The backend of each class of arrays that has been seen.

A registration puts a new table in its place: it never takes an entry out of one that a call in
another thread may be reading, and what such a call still enters is no part of the new one.
"""
CONTAINERS: dict[type, Any] = {}
"""How to take apart and put together what has been registered as a container.

No such class is one of arrays, whatever its instances look like.
"""


def register_backend(backend: Backend) -> None:
    """Add a backend at run time, or replace one of the same name.

    Args:
        backend: The record. Arrays whose class is defined in the top-level package
            `backend.name` belong to it from now on.

    Raises:
        TypeError: If `backend` is not a `Backend`.

    Example:
        >>> import dataclasses
        >>> numpy = agclip.get_backend("numpy")
        >>> agclip.register_backend(dataclasses.replace(numpy, branch=numpy.branch))
    """
    if not isinstance(backend, Backend):
        msg = f"`backend` must be an agclip.Backend; got {type(backend).__name__}."
        raise TypeError(msg)
    _registered[backend.name] = guarded(backend)
    forget_types()


def forget_types() -> None:
    """Look anew for the backend of every class, since something has been registered."""
    globals()["BY_TYPE"] = {}


def _looks_like_an_array(x: Any) -> bool:
    if isinstance(x, type) or not hasattr(x, "dtype"):
        return False
    # Values with indices are an array too, whatever can be done with them, and of unknown shape.
    indexed = hasattr(x, "values") and hasattr(x, "indices")
    return indexed or (hasattr(x, "shape") and hasattr(x, "__mul__"))


def resolve(x: Any) -> Backend | None:
    """Return the backend of an array; None for an object that is not an array."""
    cls, known = type(x), BY_TYPE
    found = known.get(cls)
    if found is None and cls not in CONTAINERS and _looks_like_an_array(x):
        found = _of_class(cls) or _standard(x)
        if found is None:
            _require_unblocked(cls)
        elif not found.replays():
            # Compiled code is guarded by what it has read: what it wrote would be read anew, and
            # so the first call of a process compiled for a second time.
            learn_dtypes(found.xp)
            known[cls] = found
    return found


def resolved(x: Any) -> tuple[Any, Backend | None]:
    """Return an object as an array, and the backend of that; itself if it is none."""
    found = resolve(x)
    if found is not None and found.read is not kernels.read:
        x = found.read([x], {type(x)})[0]
    return x, found


def _require_unblocked(cls: type) -> None:
    for name in dict.fromkeys(base.__module__.partition(".")[0] for base in cls.__mro__):
        reason = entry_points.blocked(name)
        if reason:
            msg = f"arrays of {name} must have a backend; got {cls.__name__}, but {reason}"
            raise RuntimeError(msg)


def _of_class(cls: type) -> Backend | None:
    for base in cls.__mro__:
        found = _named(base.__module__.partition(".")[0])
        if found is not None:
            return found
        if "__array_namespace__" in vars(base):
            # A library of its own, whatever it inherits operators from.
            return None
    return None


def owner_of(cls: type) -> Backend | None:
    """Return the backend of the library that defines a class, of arrays or not."""
    return None if cls.__module__ == "builtins" else _of_class(cls)


def _named(name: str) -> Backend | None:
    name = STORED_IN.get(name, name)
    found = _registered.get(name)
    return getattr(entry_points, f"backend_{name}", None) if found is None else found


def _standard(x: Any) -> Backend | None:
    # The class is asked: a container may forward what it lacks to the array that it holds.
    if not hasattr(type(x), "__array_namespace__"):
        return None
    xp = x.__array_namespace__()
    # A library may define its arrays in a package beside its own.
    owner = _named(getattr(xp, "__name__", "").partition(".")[0])
    return owner or guarded(Backend(name=type(x).__module__.partition(".")[0], xp=xp))


def backend_for(leaves: Sequence[Array], types: set[type], path: Callable[[int], str]) -> Backend:
    """Return the one backend of all leaves; a TypeError that names two paths if they differ."""
    known = BY_TYPE
    first = known.get(type(leaves[0])) or resolve(leaves[0])
    assert first is not None, "the tree holds arrays only"
    for cls in types:
        other = known.get(cls)
        if other is None and first.replays():
            other = _of_class(cls)
        if other is not first and other != first:
            return _agreed(leaves, path)
    return first


def _agreed(leaves: Sequence[Array], path: Callable[[int], str]) -> Backend:
    """Return the one backend of all leaves, each asked for itself, or raise the error."""
    while True:
        known = BY_TYPE
        first, *others = (resolve(leaf) for leaf in leaves)
        assert first is not None, "the tree holds arrays only"
        strange = [other for other in others if other is not None and other != first]
        # Two of one name: another is being registered, and this call has seen it half-way.
        if known is BY_TYPE and not any(other.name == first.name for other in strange):
            break
    for odd, other in enumerate(others, start=1):
        if other is not None and other != first:
            msg = (
                f"the arrays of one call must come from one library; got {first.name} at "
                f"{path(0)} and {other.name} at {path(odd)}. Convert one of them first."
            )
            raise TypeError(msg)
    return first


def named(name: str) -> Backend:
    """Return the backend of a name, ready for use.

    Raises:
        TypeError: If `name` is not a string.
        ValueError: If no installed distribution brings a backend of that name.
        ImportError: If its library is not installed, or its adapter does not load.
        RuntimeError: If its library is installed but cannot be used here, or is blocked.
    """
    if not isinstance(name, str):
        msg = f"`name` must be the name of a backend; got {type(name).__name__}."
        raise TypeError(msg)
    if name not in _registered:
        _require_installed(name)
    backend = _named(name) or entry_points.of_standard(name)
    assert backend is not None, "a name that is known loads or raises"
    reason = backend.usable()
    if reason is not None:
        msg = f"the backend {name!r} must be usable here; got: {reason}"
        raise RuntimeError(msg)
    return backend


def _require_installed(name: str) -> None:
    entry = entry_points.advertised(entry_points.BACKENDS).get(name)
    if entry is None and not entry_points.is_known(name):
        known = entry_points.known_names()
        hint = _checks.hint(name, known) or " agclip.backends() lists them."
        msg = f"`name` must be one of {', '.join(known)}; got {name!r}.{hint}"
        raise ValueError(msg)
    reason = "" if entry is None else entry_points.blocked(name)
    if reason:
        msg = f"the backend {name!r} must be usable here; got: {reason}"
        raise RuntimeError(msg)
    missing = "" if entry is None else _missing(entry)
    if missing:
        msg = f"the backend {name!r} must be installed; got: {missing}"
        raise ModuleNotFoundError(msg)


def _missing(entry: EntryPoint) -> str:
    """Return why an adapter's library cannot be imported, with the pip line; empty if it can."""
    if entry_points.installed(entry.name):
        return ""
    source, extras = entry_points.source(entry), entry_points.extras(entry)
    names = [f'"{source}[{extra}]"' for extra in extras] or [entry.name]
    return f"{entry.name} is not installed. Run: pip install {' or '.join(names)}"


def may_load(name: str) -> bool:
    """Tell whether the backend of a name is advertised, not blocked, and its library installed."""
    entry = entry_points.advertised(entry_points.BACKENDS).get(name)
    unknown = name in _registered or entry is None
    return not unknown and not entry_points.blocked(name) and entry_points.installed(name)


def why_not(name: str) -> str:
    """Return why the backend of a name cannot be used here, and what to do; empty if it can."""
    try:
        entry = entry_points.advertised(entry_points.BACKENDS).get(name)
        reason = ""
        if name not in _registered and entry is not None:
            reason = entry_points.blocked(name) or _missing(entry)
        if not reason:
            backend: Any = _named(name) or entry_points.of_standard(name)
            reason = backend.usable() or ""
    except Exception as error:  # noqa: BLE001 - a plugin may break in any way; the list must not
        reason = f"{type(error).__name__}: {error}"
    return reason
