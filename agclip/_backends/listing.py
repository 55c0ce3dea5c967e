"""What backends there are: each with its version, whether it can be used here, and why not."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.metadata import EntryPoint

from agclip._backends import entry_points, registry


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """One row of `backends()`.

    Attributes:
        name: The name of the backend.
        version: The version of its library, or None where it cannot be told.
        usable: Whether arrays can be made with it here; None where that has not been tried.
        reason: Why not, and what to do; empty if it is usable.
        source: The distribution that brings it, or "register_backend".

    Example:
        >>> (row,) = (row for row in agclip.backends(load=False) if row.name == "numpy")
        >>> row.version == np.__version__, row.reason
        (True, '')
    """

    name: str
    version: str | None
    usable: bool | None
    reason: str
    source: str


def backends(*, load: bool = True) -> list[BackendInfo]:
    """List every backend: registered ones, then those that installed distributions bring.

    To tell whether a library is usable it is imported, which takes seconds for some; one that
    breaks is listed with the reason.

    Args:
        load: Whether to import libraries that are installed and have not been imported yet. Without
            that `usable` is None for them.

    Returns:
        One `BackendInfo` a backend, sorted by name.

    Raises:
        ImportError: If two distributions bring a backend of the same name.

    Example:
        >>> [row.usable for row in agclip.backends(load=False) if row.name == "numpy"]
        [True]
    """
    entries = entry_points.advertised(entry_points.BACKENDS)
    names = {*entries, *registry._registered}
    rows = [_info(name, entries.get(name), load=load) for name in names]
    return sorted(rows, key=lambda row: row.name)


def _info(name: str, entry: EntryPoint | None, *, load: bool) -> BackendInfo:
    brought_by = (
        "register_backend"
        if name in registry._registered or entry is None
        else entry_points.source(entry)
    )
    if not load and name not in sys.modules and registry.may_load(name):
        return BackendInfo(
            name=name, version=_installed_version(name), usable=None, reason="", source=brought_by
        )
    reason = registry.why_not(name)
    return BackendInfo(
        name=name, version=version(name), usable=not reason, reason=reason, source=brought_by
    )


def _installed_version(name: str) -> str | None:
    """Return the version of a library that has not been imported; None where it cannot be told.

    Wheels for the CPU or a version of CUDA alone have names of their own. Their lists of files are
    searched as text: `metadata.packages_distributions` takes each apart, and ten times as long.
    """
    line = f"\n{name}/__init__.py,"
    with contextlib.suppress(Exception):  # What is installed may be damaged; the list must not be.
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
        for distribution in metadata.distributions():
            if line in f"\n{distribution.read_text('RECORD')}":
                return distribution.version
    return None


def version(name: str) -> str | None:
    """Return the version of a library that is imported; None where it cannot be told."""
    try:
        found = getattr(sys.modules[name], "__version__", None)
        # A library whose top-level package is none of its own says it as a distribution alone.
        return metadata.version(name) if found is None else str(found)
    except Exception:  # noqa: BLE001 - a library may break in any way; the list must not
        return None
