"""What each setting may be: checked wherever it comes from, with one text for every mistake."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, get_args

from agclip._typing import NonFinite
from agclip.config._settings import KEYS, Accelerate, Layer, OnForeign, Setting

Check = Callable[[Any], Any]


class _RefusedError(Exception):
    """A value that a setting cannot have: what it must be, and what it may have been meant as."""

    def __init__(self, error: type[Exception], must: str, meant: str = "") -> None:
        self.error = error
        self.must = must
        self.meant = meant


def layer_of(values: Mapping[str, Any], source: Callable[[str], str]) -> Layer:
    """Check settings by name, all of them before any counts.

    Args:
        values: The values by the names of the settings; None stands for one not given.
        source: The place that said the setting of a name.

    Raises:
        TypeError: If a value is of a wrong kind.
        ValueError: If there is no such setting, or it cannot have such a value.
    """
    return {
        key: Setting(checked(key, value, source(key)), source(key))
        for key, value in values.items()
        if value is not None or key not in KEYS
    }


def checked(key: str, value: Any, source: str) -> Any:
    """Return the value of a setting as `Settings` holds it."""
    if key not in KEYS:
        known = ", ".join(KEYS)
        msg = f"a setting must be one of {known}; got {key!r} ({source}).{hint(key, KEYS)}"
        raise ValueError(msg)
    try:
        return _CHECKS[key](value)
    except _RefusedError as refused:
        msg = f"`{key}` must be {refused.must}; got {value!r} ({source}).{refused.meant}"
        raise refused.error(msg) from None


def checked_text(key: str, text: str, source: str) -> Any:
    """Return the value that an environment variable gives a setting."""
    value: Any = text.strip()
    try:
        if key == "backend" and "," in value:
            value = [name.strip() for name in value.split(",")]
        elif key in _WORDS:
            value = _WORDS[key](value)
    except _RefusedError as refused:
        msg = f"`{key}` must be {refused.must}; got {value!r} ({source}).{refused.meant}"
        raise refused.error(msg) from None
    return checked(key, value, source)


def hint(word: Any, known: Iterable[str], prefix: str = "") -> str:
    """Return the question whether something known was meant; empty if nothing is near.

    A prefix that all have is no likeness.
    """
    spelt = {name.removeprefix(prefix).lower(): name for name in known}
    close = difflib.get_close_matches(str(word).removeprefix(prefix).lower(), spelt, n=1)
    return f" Did you mean {spelt[close[0]]!r}?" if close else ""


def _backend(value: Any) -> str | tuple[str, ...]:
    if value == "auto":
        return "auto"
    # Imported here: the registry asks for the settings itself.
    from agclip import _registry

    names = [value] if isinstance(value, str) else value
    listed = isinstance(names, (list, tuple)) and len(names) > 0
    if not listed or not all(isinstance(name, str) for name in names):
        must = 'the name of a backend, a list of names (the first usable one counts), or "auto"'
        raise _RefusedError(TypeError, must)
    for name in names:
        if not _registry.is_known(name):
            known = _registry.known_names()
            must = f'"auto", or one or several of {", ".join(known)}'
            raise _RefusedError(ValueError, must, hint(name, [*known, "auto"]))
    return value if isinstance(value, str) else tuple(value)


def _device(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        raise _RefusedError(TypeError, 'the name of a device, such as "cpu" or "cuda:0", or "auto"')
    return None if value == "auto" else value


def _one_of(words: Collection[str]) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            kind = ValueError if isinstance(value, str) else TypeError
            listed = ", ".join(f'"{word}"' for word in words)
            raise _RefusedError(kind, f"one of {listed}", hint(value, words))
        return value

    return check


def _threads(value: Any) -> int | None:
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        kind = ValueError if type(value) in (int, str) else TypeError
        raise _RefusedError(kind, 'a whole number > 0, or "auto"')
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _RefusedError(TypeError, "true or false")
    return value


def _tables(value: Any) -> tuple[Mapping[str, Any], ...]:
    tables = [value] if isinstance(value, Mapping) else value
    must = "a table, or an array of tables, each with the name of a `rule`"
    if not isinstance(tables, (list, tuple)) or not all(isinstance(t, Mapping) for t in tables):
        raise _RefusedError(TypeError, must)
    for table in tables:
        if not isinstance(table.get("rule"), str):
            raise _RefusedError(ValueError, must, hint(next(iter(table), ""), ["rule"]))
    return tuple(copy.deepcopy(dict(table)) for table in tables)


_CHECKS: dict[str, Check] = {
    "backend": _backend,
    "device": _device,
    "on_foreign": _one_of(get_args(OnForeign)),
    "accelerate": _one_of(get_args(Accelerate)),
    "threads": _threads,
    "nonfinite": _one_of(get_args(NonFinite)),
    "reproducible": _flag,
    "strict": _flag,
    "clip": _tables,
}

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _spoken_flag(text: str) -> bool:
    word = text.lower()
    if word not in (*_TRUE, *_FALSE):
        must = f"one of {', '.join(_TRUE)}, {', '.join(_FALSE)}"
        raise _RefusedError(ValueError, must, hint(text, (*_TRUE, *_FALSE)))
    return word in _TRUE


def _spoken_number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


_WORDS: dict[str, Callable[[str], Any]] = {
    "threads": _spoken_number,
    "reproducible": _spoken_flag,
    "strict": _spoken_flag,
}
