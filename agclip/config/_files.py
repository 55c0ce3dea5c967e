"""Files of settings: where they are looked for, and what they say."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agclip.config import _environment, _toml
from agclip.config._checks import layer_of, short
from agclip.config._settings import Layer

NAME = "agclip.toml"
PROJECT = "pyproject.toml"
TABLE = "tool.agclip"


def read(path: Path) -> Layer:
    """Return the settings of one file.

    Raises:
        OSError: If it cannot be read.
        TypeError: If a value is of a wrong kind.
        ValueError: If it is no TOML, or says what cannot be set; or if it is a `pyproject.toml`
            without a table `[tool.agclip]`.
    """
    found = _settings_in(path)
    if found is None:
        msg = f"{path} must have a table [{TABLE}]; got none. Add it, or name another file."
        raise ValueError(msg)
    return _layer(path, found)


def discovered() -> list[Layer]:
    """Return what the files say that are looked for, the one that counts most at the end.

    Raises:
        OSError: If a file cannot be read.
        TypeError: If a value is of a wrong kind.
        ValueError: If a file says what cannot be set.
    """
    return [layer for _, layer in search() if layer is not None]


def search() -> Iterator[tuple[Path, Layer | None]]:
    """Yield every place that is looked at, and what a file there says; None if there is none.

    These are the user's own file, the nearest one of the project, and the one that AGCLIP_CONFIG
    names. Raises as `discovered` does.
    """
    named = os.environ.get(_environment.FILE)
    if named is not None and named.strip().lower() in ("", "none"):
        return
    personal = _personal()
    if personal is not None:
        yield personal, read(personal) if there(personal.is_file) else None
    for path in _candidates():
        found = _settings_in(path) if there(path.is_file) else None
        yield path, None if found is None else _layer(path, found)
        if found is not None:
            break
    if named is not None:
        path = located(named.strip())
        yield path, _named(path)


def located(path: str | os.PathLike[str]) -> Path:
    """Return the place that a user means by a path."""
    with contextlib.suppress(RuntimeError):  # There is no such user.
        path = Path(path).expanduser()
    return Path(path).absolute()


def _personal() -> Path | None:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        # The standard has relative paths ignored.
        folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    except RuntimeError:
        return None  # A user without a home.
    return folder / "agclip" / "config.toml"


def _named(path: Path) -> Layer:
    if not there(path.is_file):
        msg = (
            f'`{_environment.FILE}` must name a file, or be "none" for no files; got '
            f"{short(str(path))}, which is none."
        )
        raise FileNotFoundError(msg)
    return read(path)


def there(test: Callable[[], bool]) -> bool:
    """Tell what a test of a path says; false where it cannot be asked."""
    try:
        return test()
    except OSError:
        return False  # In a folder that is closed to this user.


def _candidates() -> list[Path]:
    """Return where a project may have its file: nearest to where it runs, then to the program."""
    places: dict[Path, None] = {}
    for start in (_working_directory(), _program()):
        if start is not None:
            places |= dict.fromkeys(_upward(start))
    return list(places)


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None  # It has been removed.


def _program() -> Path | None:
    """Return the folder of the script that runs; None for an installed one, or where none does."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(file, str):
        return None
    import sysconfig

    # Around an installed command, such as `pytest`, lies its environment and no project.
    kinds = ("scripts", "purelib", "platlib", "stdlib", "platstdlib")
    try:
        folder = Path(file).resolve().parent
        installed = [Path(sysconfig.get_path(kind)).resolve() for kind in kinds]
    except OSError:
        return None  # The working directory has been removed.
    installed.append(Path(__file__).resolve().parents[1])
    return None if any(folder.is_relative_to(place) for place in installed) else folder


def _upward(start: Path) -> Iterator[Path]:
    """Yield the files of a project from a folder upward; a repository's root is the last one."""
    for folder in (start, *start.parents):
        yield folder / NAME
        yield folder / PROJECT
        if there((folder / ".git").exists):  # A file in a work tree.
            return


def _settings_in(path: Path) -> Any:
    """Return the table of settings; None for a `pyproject.toml` that has none."""
    content = _toml.read(path)
    if path.name == PROJECT and b"agclip" not in content:
        return None  # Another tool's file need not even be valid.
    document = _toml.parsed(content, path)
    if path.name != PROJECT:
        return document
    tools = document.get("tool")
    return tools.get("agclip") if isinstance(tools, dict) else None


def _layer(path: Path, found: Any) -> Layer:
    prefix = f"{TABLE}." if path.name == PROJECT else ""
    if not isinstance(found, dict):
        msg = f"`{TABLE}` must be a table; got {short(repr(found))} ({path})."
        raise TypeError(msg)
    return layer_of(found, lambda key: f"{path}: {prefix}{short(key)}", file=True)
