"""The one door: adapters and containers that installed distributions advertise.

Adapters are attributes of this module, `backend_<name>`, loaded at first access (PEP 562): a
compiler that traces Python reads a module's attribute, but cannot follow an import made by a call.
Nothing is scanned and no library is imported before an array of it has been seen.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from agclip._backends.backend import Backend
from agclip._backends.dtypes import learn_dtypes
from agclip._backends.requirements import guarded
from agclip.config import _environment

BACKENDS = "agclip.backends"
CONTAINERS = "agclip.containers"
_PREFIX = "backend_"


def source(entry: EntryPoint) -> str:
    """Return the name of the distribution that advertises an entry point."""
    return entry.dist.name if entry.dist is not None else entry.value


@functools.cache
def advertised(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name; an error if two distributions share one."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
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


def blocked(name: str) -> str:
    """Return why the backend of a name must not be loaded; empty if it may be."""
    if name in _environment.blocked():
        return f"{_environment.BLOCK} names it. Take it out of that variable to use it."
    return ""


def load(entry: EntryPoint) -> Backend:
    """Load an adapter; an ImportError that names its distribution if it breaks."""
    backend = _loaded(entry, "backend")
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


def _loaded(entry: EntryPoint, kind: str) -> Any:
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
    return [_loaded(entry, "containers") for entry in ready]


def forget() -> None:
    """Drop what has been scanned and loaded, so that the next look-up starts afresh."""
    advertised.cache_clear()
    for attribute in [name for name in globals() if name.startswith(_PREFIX)]:
        del globals()[attribute]
