"""The settings in force.

`settings` is an attribute of this module, found at access (PEP 562): a compiler that traces Python
reads a module's attribute, and looks again at the next call, but can follow neither the reading of
a file nor a context variable. It is an ordinary attribute while no context is open, so that
looking it up costs next to nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from agclip.config import _environment, _files
from agclip.config._settings import Layer, Settings, merged

_lock = threading.RLock()


class _Process:
    """What holds for the whole process."""

    def __init__(self) -> None:
        self.assigned: Layer = {}
        self.read: tuple[Layer, ...] | None = None
        """What files and the environment said; None before the first use."""
        self.settings: Settings | None = None
        self.contexts = 0
        """How many contexts are open, in all threads."""


class _Overlay:
    """The settings of the contexts that are open, and what they add up to with the rest."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.base: Settings | None = None
        self.settings = Settings()


_process = _Process()
_overlay: ContextVar[_Overlay | None] = ContextVar("agclip.config", default=None)


def __getattr__(name: str) -> Settings:
    if name != "settings":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return _in_force()


def _in_force() -> Settings:
    with _lock:
        base, overlay = _of_process(), _overlay.get()
        if overlay is not None:
            return _under(overlay, base)
        if not _process.contexts:
            globals()["settings"] = base
        return base


def _of_process() -> Settings:
    if _process.read is None:
        _process.read = (*_files.discovered(), _environment.read())
    if _process.settings is None:
        _process.settings = merged(*_process.read, _process.assigned)
    return _process.settings


def _under(overlay: _Overlay, base: Settings) -> Settings:
    if overlay.base is not base:
        assert _process.read is not None, "the settings of the process have been read"
        overlay.settings = merged(*_process.read, _process.assigned, overlay.layer)
        overlay.base = base
    return overlay.settings


def assign(layer: Layer, dropped: set[str]) -> None:
    """Set what holds for the whole process; forget what was set for some keys."""
    with _lock:
        kept = {key: value for key, value in _process.assigned.items() if key not in dropped}
        _process.assigned = {**kept, **layer}
        _changed()


def reread(path: Path | None) -> None:
    """Read the environment again, and one file, or those that are looked for.

    Nothing changes if that fails.
    """
    with _lock:
        files = _files.discovered() if path is None else [_files.read(path)]
        _process.read = (*files, _environment.read())
        _changed()


def forget() -> None:
    """Drop what was read and what was set for the process, so that the next use starts afresh."""
    with _lock:
        _process.read, _process.assigned = None, {}
        _changed()


def _changed() -> None:
    _process.settings = None
    globals().pop("settings", None)


@contextmanager
def context(layer: Layer) -> Iterator[Settings]:
    """Lay settings over those in force, until the end of a block."""
    outer = _overlay.get()
    with _lock:
        _process.contexts += 1
        globals().pop("settings", None)
    token = _overlay.set(_Overlay({**(outer.layer if outer else {}), **layer}))
    try:
        yield _in_force()
    finally:
        _overlay.reset(token)
        with _lock:
            _process.contexts -= 1
