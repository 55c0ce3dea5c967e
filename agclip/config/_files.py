"""Files of settings: where they are looked for, and what they say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agclip.config import _environment
from agclip.config._checks import layer_of
from agclip.config._settings import Layer

NAME = "agclip.toml"
PROJECT = "pyproject.toml"
_TABLE = "tool.agclip"


def read(path: Path) -> Layer:
    """Return the settings of one file.

    Raises:
        OSError: If it cannot be read.
        TypeError: If a value is of a wrong kind.
        ValueError: If it is no TOML, or says what cannot be set; or if it is a `pyproject.toml`
            without a table `[tool.agclip]`.
    """
    found = _settings_in(path, path.read_bytes())
    if found is None:
        msg = f"{path} must have a table [{_TABLE}]; got none. Add it, or name another file."
        raise ValueError(msg)
    return _layer(path, found)


def discovered() -> list[Layer]:
    """Return what the files say that are looked for, the one that counts most at the end.

    These are the user's own file, the nearest one of the project, and the one that AGCLIP_CONFIG
    names.

    Raises:
        OSError: If a file cannot be read.
        TypeError: If a value is of a wrong kind.
        ValueError: If a file says what cannot be set.
    """
    named = os.environ.get(_environment.FILE)
    if named is not None and named.strip().lower() in ("", "none"):
        return []
    layers = []
    personal = _personal()
    if personal is not None and _there(personal.is_file):
        layers.append(read(personal))
    nearest = _nearest()
    if nearest is not None:
        layers.append(nearest)
    if named is not None:
        layers.append(_named(Path(named.strip()).expanduser().absolute()))
    return layers


def _personal() -> Path | None:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        # The standard has relative paths ignored.
        folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    except RuntimeError:
        return None  # A user without a home.
    return folder / "agclip" / "config.toml"


def _named(path: Path) -> Layer:
    if not _there(path.is_file):
        msg = (
            f'`{_environment.FILE}` must name a file, or be "none" for no files; got {path}, which '
            f"is none."
        )
        raise FileNotFoundError(msg)
    return read(path)


def _nearest() -> Layer | None:
    try:
        start = Path.cwd()
    except FileNotFoundError:
        return None  # The working directory has been removed.
    for path in _candidates(start):
        if _there(path.is_file):
            found = _settings_in(path, path.read_bytes())
            if found is not None:
                return _layer(path, found)
    return None


def _there(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except OSError:
        return False  # In a folder that is closed to this user.


def _candidates(start: Path) -> Iterator[Path]:
    """Yield the files of a project from a folder upward; a repository's root is the last one."""
    for folder in (start, *start.parents):
        yield folder / NAME
        yield folder / PROJECT
        if _there((folder / ".git").exists):  # A file in a work tree.
            return


def _settings_in(path: Path, content: bytes) -> Any:
    """Return the table of settings; None for a `pyproject.toml` that has none."""
    if path.name == PROJECT and b"agclip" not in content:
        return None  # Another tool's file need not even be valid.
    import tomllib  # Most processes have no file: they need no parser.

    try:
        document = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        msg = f"{path} must be text in UTF-8; got byte {error.start} that is not. Save it as such."
        raise ValueError(msg) from None
    except tomllib.TOMLDecodeError as error:
        msg = f"{path} must be valid TOML; got: {error}. Mend that place."
        raise ValueError(msg) from None
    if path.name != PROJECT:
        return document
    tools = document.get("tool")
    return tools.get("agclip") if isinstance(tools, dict) else None


def _layer(path: Path, found: Any) -> Layer:
    prefix = f"{_TABLE}." if path.name == PROJECT else ""
    if not isinstance(found, dict):
        msg = f"`{_TABLE}` must be a table; got {found!r} ({path})."
        raise TypeError(msg)
    return layer_of(found, lambda key: f"{path}: {prefix}{key}")
