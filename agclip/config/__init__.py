"""Settings: arguments, contexts, the process, the environment, files; each value with its source.

Nothing is read when agclip is imported, and nothing is ever written.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Unpack

from agclip.config import _files, _now
from agclip.config._checks import layer_of
from agclip.config._settings import KEYS, Given, Settings

__all__ = [
    "KEYS",
    "Given",
    "Settings",
    "config_context",
    "current",
    "get_config",
    "load_config",
    "set_config",
]


def current() -> Settings:
    """Return the settings in force: for every call, so it costs next to nothing.

    Example:
        >>> agclip.config.current() == agclip.get_config()
        True
    """
    return _now.settings


def get_config() -> Settings:
    """Return the settings in force, each of which remembers where it came from.

    The environment and the files are read at the first use; `load_config` reads them again.

    Returns:
        The settings; `get_config().source("backend")` is the place that said one of them.

    Raises:
        OSError: If a file that is named or found cannot be read.
        TypeError: If a value in the environment or a file is of a wrong kind.
        ValueError: If a file is no TOML, or a setting does not exist or cannot have its value.

    Example:
        >>> agclip.get_config().nonfinite
        'propagate'
    """
    return current()


def set_config(**settings: Unpack[Given]) -> None:
    """Change settings for the whole process, all threads included.

    They count more than the environment and files, and less than `config_context` and the
    arguments of a call. All are checked before any changes.

    Args:
        settings: Settings by name. None takes back what an earlier call has set; "auto" is how to
            ask for no device or number of threads in particular.

    Raises:
        ImportError: If the library that `backend` names does not load.
        TypeError: If a value is of a wrong kind.
        ValueError: If a setting does not exist, or cannot have its value.

    Example:
        >>> agclip.set_config(nonfinite="zero")
        >>> agclip.clip_by_norm(np.array([1.0, np.inf]), 1.0)
        array([0., 0.])
        >>> agclip.set_config(nonfinite=None)
    """
    layer = layer_of(settings, lambda _: "set_config")
    _now.assign(layer, {key for key, value in settings.items() if value is None})


def config_context(**settings: Unpack[Given]) -> AbstractContextManager[Settings]:
    """Change settings until the end of a `with` block.

    Contexts nest, and end as they began whatever is raised inside. Other threads do not see them;
    a coroutine sees those that were open where it became a task. One that ends elsewhere than it
    began, in another task or out of order, has ended everywhere.

    Args:
        settings: Settings by name; None for one that is to stay as it is. All are checked before
            the block is entered.

    Returns:
        A context manager that gives the settings in force inside; it may be entered again.

    Raises:
        ImportError: If the library that `backend` names does not load.
        TypeError: If a value is of a wrong kind.
        ValueError: If a setting does not exist, or cannot have its value.

    Example:
        >>> with agclip.config_context(nonfinite="zero"):
        ...     agclip.clip_by_norm(np.array([1.0, np.inf]), 1.0)
        array([0., 0.])
    """
    return _now.Context(layer_of(settings, lambda _: "config_context"))


def load_config(path: str | os.PathLike[str] | None = None) -> Settings:
    """Read the environment again, and a file in place of those that are looked for.

    What `set_config` and contexts say still counts more. If anything is wrong, nothing changes.

    Args:
        path: A TOML file; in one named `pyproject.toml` the table `[tool.agclip]`. None looks for
            files again, as the first use did.

    Returns:
        The settings in force afterwards.

    Raises:
        OSError: If the file cannot be read.
        TypeError: If a value is of a wrong kind.
        ValueError: If the file is no TOML, or a setting does not exist or cannot have its value.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "agclip.toml")
        ...     _ = path.write_text('nonfinite = "error"')
        ...     agclip.load_config(path).nonfinite
        'error'
    """
    _now.reread(None if path is None else _files.located(path))
    return current()
