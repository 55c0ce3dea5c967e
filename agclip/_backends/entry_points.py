"""Backends by name: registered ones, those that installed distributions advertise, and others.

Adapters are attributes of this module, `backend_<name>`, loaded at first access (PEP 562): a
compiler that traces Python reads a module's attribute, but cannot follow an import made by a call.
Nothing is scanned and no library is imported before an array of it has been seen.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import agclip_backends
from agclip._backends.backend import Backend
from agclip._backends.dtypes import learn_dtypes
from agclip._backends.requirements import guarded

BACKENDS = "agclip.backends"
CONTAINERS = "agclip.containers"
COMMUNICATORS = "agclip.communicators"
_OWN = {
    BACKENDS: agclip_backends.BACKENDS,
    CONTAINERS: agclip_backends.CONTAINERS,
    COMMUNICATORS: agclip_backends.COMMUNICATORS,
}
_OURS = "agclip"
BLOCK = "AGCLIP_BLOCK"
"""Names backends, separated by commas, that are not to be loaded."""
_PREFIX = "backend_"

registered: dict[str, Backend] = {}
"""The backends that have been added at run time."""


def source(entry: EntryPoint) -> str:
    """Return the name of the distribution that advertises an entry point."""
    if entry.dist is not None:
        return entry.dist.name
    return _OURS if _OWN[entry.group].get(entry.name) == entry.value else entry.value


def extras(entry: EntryPoint) -> list[str]:
    """Return the extras of its distribution that bring the library of an adapter."""
    name = entry.name
    if entry.dist is None:
        ours = source(entry) == _OURS
        return list(agclip_backends.EXTRAS.get(name, (name,))) if ours else []
    found = entry.dist.metadata.get_all("Provides-Extra") or ()
    return [extra for extra in found if extra == name or extra.startswith(f"{name}-")]


@functools.cache
def advertised(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name; an error if two distributions share one.

    Those of this distribution are among them, even where it has no metadata.
    """
    found: dict[str, EntryPoint] = {}
    ours = [EntryPoint(name, value, group) for name, value in _OWN[group].items()]
    for entry in (*entry_points(group=group), *ours):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            msg = (
                f"the name {entry.name!r} in the entry-point group {group!r} must belong to one "
                f"distribution; got {source(other)} ({other.value}) and {source(entry)} "
                f"({entry.value}). Uninstall one of them."
            )
            raise ImportError(msg)
    return found


def __getattr__(attribute: str) -> Backend:
    if not attribute.startswith(_PREFIX):
        msg = f"module {__name__!r} has no attribute {attribute!r}"
        raise AttributeError(msg)
    name = attribute.removeprefix(_PREFIX)
    entry = None if blocked(name) else advertised(BACKENDS).get(name)
    if entry is None:
        raise AttributeError(attribute)
    backend = globals()[attribute] = load(entry)
    learn_dtypes(backend.xp)
    return backend


def blocked_names() -> frozenset[str]:
    """Return the names of the backends that must not be loaded."""
    names = os.environ.get(BLOCK, "").split(",")
    return frozenset(name.strip() for name in names if name.strip())


def blocked(name: str) -> str:
    """Return why the backend of a name must not be loaded; empty if it may be."""
    if name in blocked_names():
        return f"{BLOCK} names it. Take it out of that variable to use it."
    return ""


def known_names() -> list[str]:
    """Return the names of all backends that are registered or that distributions bring."""
    return sorted({*advertised(BACKENDS), *registered})


def is_known(name: str) -> bool:
    """Tell whether a name is that of a backend, or of a library that follows the standard.

    A library is imported to find out: ask for names that come from the user only.
    """
    return name in known_names() or of_standard(name) is not None


def is_listed(name: str) -> bool:
    """Tell whether a name is known, and importing what it names is no surprise.

    It is for names in files, which may lie in a folder that somebody else has filled.
    """
    return name in known_names() or (
        name in (*agclip_backends.STANDARD, *agclip_backends.STORED_IN)
        and of_standard(name) is not None
    )


def of_standard(name: str) -> Backend | None:
    """Return the backend of a library that follows the standard in its top-level package."""
    if not name.isidentifier() or not installed(name):
        return None
    try:
        xp = importlib.import_module(name)
    except Exception as error:
        msg = f"the library {name!r} must load; got {type(error).__name__}: {error}. Mend it first."
        raise ImportError(msg) from error
    return guarded(Backend(name=name, xp=xp)) if hasattr(xp, "__array_namespace_info__") else None


def installed(name: str) -> bool:
    """Tell whether a library can be imported, without importing it."""
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (OSError, ValueError):
        return False  # A name too long for a file.


def load(entry: EntryPoint) -> Backend:
    """Load an adapter; an ImportError that names its distribution if it breaks."""
    backend = loaded(entry, "backend")
    if not isinstance(backend, Backend):
        msg = (
            f"the entry point {entry.name!r} of {source(entry)} must name an agclip.Backend; got "
            f"{type(backend).__name__} from {entry.value}."
        )
        raise ImportError(msg)
    if backend.name != entry.name:
        msg = (
            f"the entry point {entry.name!r} of {source(entry)} must name a backend of that name; "
            f"got one called {backend.name!r} from {entry.value}. Both are the top-level package "
            f"that defines the array's class."
        )
        raise ImportError(msg)
    return guarded(backend)


def loaded(entry: EntryPoint, kind: str) -> Any:
    """Return what an entry point names; an ImportError that names its distribution if it breaks."""
    try:
        return entry.load()
    except Exception as error:
        msg = (
            f"the {kind} {entry.name!r} of {source(entry)} must load; got "
            f"{type(error).__name__}: {error}. Update or uninstall that distribution."
        )
        raise ImportError(msg) from error


Flattener = Callable[[Any], tuple[list[Any], list[str], Callable[[list[Any]], Any]] | None]


def flatteners() -> list[Flattener]:
    """Return the container functions of the libraries that are imported already."""
    ready = [entry for name, entry in advertised(CONTAINERS).items() if name in sys.modules]
    return [loaded(entry, "containers") for entry in ready]


def forget() -> None:
    """Drop what has been scanned and loaded, so that the next look-up starts afresh."""
    advertised.cache_clear()
    for attribute in [name for name in globals() if name.startswith(_PREFIX)]:
        del globals()[attribute]
