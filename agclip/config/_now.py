"""The settings in force.

`settings` is an attribute of this module, found at access (PEP 562): a compiler that traces Python
reads a module's attribute, and looks again at the next call, but can follow neither the reading of
a file nor a context variable. It is an ordinary attribute while no context is open, so that
looking it up costs next to nothing.
"""

from __future__ import annotations

import os
import threading
from contextlib import ContextDecorator, suppress
from contextvars import ContextVar, Token
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
    """The settings of one context that is open, and what they add up to with the rest."""

    def __init__(self, layer: Layer, outer: _Overlay | None) -> None:
        self.layer = layer
        self.outer = outer
        self.token: Token[_Overlay | None]
        self.closed = False
        """Whether it has ended where it could not be taken out of the context variable."""
        self.base: Settings | None = None
        self.settings = Settings()

    def layers(self) -> list[Layer]:
        """Return the layers of this context and of those around it, the innermost at the end."""
        layers, overlay = [self.layer], _open(self.outer)
        while overlay is not None:
            layers.append(overlay.layer)
            overlay = _open(overlay.outer)
        return layers[::-1]


def _open(overlay: _Overlay | None) -> _Overlay | None:
    """Return the innermost context that has not ended."""
    while overlay is not None and overlay.closed:
        overlay = overlay.outer
    return overlay


_process = _Process()
_overlay: ContextVar[_Overlay | None] = ContextVar("agclip.config", default=None)


def __getattr__(name: str) -> Settings:
    if name != "settings":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return _in_force()


def _in_force() -> Settings:
    with _lock:
        base, overlay = _of_process(), _open(_overlay.get())
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
        overlay.settings = merged(*_process.read, _process.assigned, *overlay.layers())
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


class Context(ContextDecorator):
    """Lays settings over those in force, until the end of a block. It may be used again.

    A context may end elsewhere than it began: an async generator that an event loop closes does so
    in another task, and an `ExitStack` may be unwound in any order. What it has set then ends
    everywhere, since the context variable of another task cannot be put back.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._entered: list[_Overlay] = []

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={setting.value!r}" for key, setting in self._layer.items())
        return f"config_context({given})"

    def _recreate_cm(self) -> Context:
        return Context(self._layer)  # A decorated function may run in several threads at a time.

    def __enter__(self) -> Settings:
        overlay = _Overlay(self._layer, _open(_overlay.get()))
        with _lock:
            _process.contexts += 1
            globals().pop("settings", None)
        overlay.token = _overlay.set(overlay)
        self._entered.append(overlay)
        try:
            return _in_force()
        except BaseException:  # A file of settings is wrong, and the block is never entered.
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        current = _overlay.get()
        overlay = current if current in self._entered else self._entered[-1]
        self._entered.remove(overlay)
        with _lock:
            _process.contexts -= 1
            if overlay is current:
                with suppress(ValueError):  # Raised in another task than it was entered in.
                    _overlay.reset(overlay.token)
                    return
            overlay.closed = True
            _changed()


def _after_fork() -> None:
    """Begin a child with a lock that nobody holds: the thread that held it is not there."""
    globals()["_lock"] = threading.RLock()
    _changed()  # That thread may have been in the middle of a change.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
