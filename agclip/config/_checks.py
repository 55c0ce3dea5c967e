"""What each setting may be: checked wherever it comes from, with one text for every mistake."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, get_args

from agclip._typing import NonFinite
from agclip.config import _toml
from agclip.config._settings import KEYS, Accelerate, Layer, OnForeign, Setting

Check = Callable[[Any], Any]

_LINE = 240
"""Characters of a value that a message shows."""
_DEEPEST = 32
"""Tables within tables."""
_MOST_THREADS = 1024


class _RefusedError(Exception):
    """A value that a setting cannot have: what it must be, and what it may have been meant as."""

    def __init__(self, error: type[Exception], must: str, meant: str = "") -> None:
        self.error = error
        self.must = must
        self.meant = meant

    def of(self, key: str, value: Any, source: str) -> Exception:
        """Return the error that tells a user."""
        try:
            got = short(repr(value))
        except RecursionError:
            got = f"a {type(value).__name__}"
        return self.error(f"`{key}` must be {self.must}; got {got} ({source}).{self.meant}")


def layer_of(
    values: Mapping[str, Any], source: Callable[[str], str], *, file: bool = False
) -> Layer:
    """Check settings by name, all of them before any counts.

    Args:
        values: The values by the names of the settings; None stands for one not given.
        source: The place that said the setting of a name.
        file: Whether a file said them, which must not decide what is imported.

    Raises:
        TypeError: If a value is of a wrong kind.
        ValueError: If there is no such setting, or it cannot have such a value.
    """
    return {
        key: Setting(checked(key, value, source(key), file=file), source(key))
        for key, value in values.items()
        if value is not None or key not in KEYS
    }


def checked(key: str, value: Any, source: str, *, file: bool = False) -> Any:
    """Return the value of a setting as `Settings` holds it."""
    if key not in KEYS:
        known = ", ".join(KEYS)
        got = f"{short(repr(key))} ({source})"
        msg = f"a setting must be one of {known}; got {got}.{hint(key, KEYS)}"
        raise ValueError(msg)
    check = _backend_in_file if file and key == "backend" else _CHECKS[key]
    try:
        return check(value)
    except _RefusedError as refused:
        raise refused.of(key, value, source) from None


def checked_text(key: str, text: str, source: str) -> Any:
    """Return the value that an environment variable gives a setting."""
    value: Any = text.strip()
    try:
        if key == "backend" and "," in value:
            value = [name.strip() for name in value.split(",")]
        elif key in _WORDS:
            value = _WORDS[key](value)
    except _RefusedError as refused:
        raise refused.of(key, value, source) from None
    return checked(key, value, source)


def short(text: str) -> str:
    """Return a text that fits into a message: what is too long for a line loses its middle."""
    return text if len(text) <= _LINE else f"{text[: _LINE // 2]}…{text[-_LINE // 2 :]}"


def hint(word: Any, known: Iterable[str], prefix: str = "") -> str:
    """Return the question whether something known was meant; empty if nothing is near.

    A prefix that all have is no likeness.
    """
    if len(str(word)) > _LINE:
        return ""
    spelt = {name.removeprefix(prefix).lower(): name for name in known}
    close = difflib.get_close_matches(str(word).removeprefix(prefix).lower(), spelt, n=1)
    return f" Did you mean {spelt[close[0]]!r}?" if close else ""


def _backend(value: Any) -> str | tuple[str, ...]:
    # Imported here: the registry asks for the settings itself.
    from agclip._backends import registry

    return _backends(value, registry.is_known, "")


def _backend_in_file(value: Any) -> str | tuple[str, ...]:
    from agclip._backends import registry

    advice = " A file can name no other library: set_config and AGCLIP_BACKEND can."
    return _backends(value, registry.is_listed, advice)


def _backends(value: Any, known: Callable[[str], bool], advice: str) -> str | tuple[str, ...]:
    if value == "auto":
        return "auto"
    from agclip._backends import registry

    names = [value] if isinstance(value, str) else value
    listed = isinstance(names, (list, tuple)) and len(names) > 0
    if not listed or not all(isinstance(name, str) for name in names):
        must = 'the name of a backend, a list of names (the first usable one counts), or "auto"'
        raise _RefusedError(TypeError, must)
    for name in names:
        if not known(name):
            listed_names = registry.known_names()
            must = f'"auto", or one or several of {", ".join(listed_names)}'
            raise _RefusedError(ValueError, must, hint(name, [*listed_names, "auto"]) or advice)
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
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_THREADS:
        kind = ValueError if type(value) in (int, str) else TypeError
        raise _RefusedError(kind, f'a whole number from 1 to {_MOST_THREADS}, or "auto"')
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
    if _deeper(tables, _DEEPEST):
        raise _RefusedError(ValueError, f"nested at most {_DEEPEST} deep")
    return tuple(copy.deepcopy(dict(table)) for table in tables)


def _deeper(value: Any, depth: int) -> bool:
    """Tell whether lists and tables are nested deeper than that; a cycle is."""
    level = [value]
    for _ in range(depth + 1):
        parts = [list(x.values()) if isinstance(x, Mapping) else x for x in level]
        inner = (x for part in parts if isinstance(part, (list, tuple)) for x in part)
        level = list({id(x): x for x in inner}.values())
    return bool(level)


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
    return int(text) if text.isdecimal() and len(text) < 20 else text


def _spoken_table(text: str) -> Any:
    must = 'a table as TOML has it, such as { rule = "global_norm", clip_norm = 1.0 }'
    try:
        found = _toml.document(f"clip = {text}")
    except ValueError as error:
        raise _RefusedError(ValueError, must, f" That is no TOML: {error}.") from None
    if len(found) > 1:
        raise _RefusedError(ValueError, must)
    return found["clip"]


_WORDS: dict[str, Callable[[str], Any]] = {
    "threads": _spoken_number,
    "reproducible": _spoken_flag,
    "strict": _spoken_flag,
    "clip": _spoken_table,
}
