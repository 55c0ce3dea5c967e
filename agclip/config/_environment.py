"""What environment variables say: `AGCLIP_` and the name of a setting in capitals."""

from __future__ import annotations

import os
import sys
import warnings

from agclip._backends import entry_points
from agclip._checks import hint
from agclip.config._checks import checked_text
from agclip.config._settings import KEYS, Layer, Setting

PREFIX = "AGCLIP_"
FILE = "AGCLIP_CONFIG"
"""Names a file; empty or "none" switches the search for files off."""
CACHE = "AGCLIP_CACHE"
"""Names the directory of kernels that backends have compiled; "none" keeps nothing on disk."""

_SETTINGS = {PREFIX + key.upper(): key for key in KEYS}
_VARIABLES = (*_SETTINGS, FILE, entry_points.BLOCK, CACHE, "AGCLIP_REQUIRE_BACKENDS")
_said: set[str] = set()


def read() -> Layer:
    """Return the settings of the environment; an empty variable is none.

    Raises:
        TypeError: If a value is of a wrong kind.
        ValueError: If a setting cannot have such a value.
    """
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in _VARIABLES:
            question = hint(variable, _VARIABLES, PREFIX)
            _warn_once(f"{variable} is no variable of agclip, and is ignored.{question}")
    _check_blocked()
    return {
        key: Setting(checked_text(key, text, variable), variable)
        for variable, key in _SETTINGS.items()
        if (text := os.environ.get(variable, "").strip())
    }


def _check_blocked() -> None:
    for name in sorted(entry_points.blocked_names()):
        known = entry_points.known_names()
        if name not in known:
            found = f"{entry_points.BLOCK} names {name!r}, which no installed distribution brings."
            _warn_once(f"{found}{hint(name, known)}")


def _warn_once(msg: str) -> None:
    """Warn, on behalf of the caller's line, unless that has been said."""
    if msg in _said:
        return
    _said.add(msg)
    depth = 1
    while sys._getframe(depth).f_globals.get("__name__", "").partition(".")[0] == "agclip":
        depth += 1
    warnings.warn(msg, UserWarning, stacklevel=depth + 1)
