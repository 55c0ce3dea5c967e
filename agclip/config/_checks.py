"""What each setting may be: checked wherever it comes from, with one text for every mistake."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple, get_args

from agclip import _checks
from agclip._backends import entry_points
from agclip._checks import At, hint, refuse
from agclip._typing import NonFinite
from agclip.config import _toml
from agclip.config._settings import KEYS, Accelerate, Layer, OnForeign, OnShard, Setting

Check = Callable[[At, Any], Any]

_LINE = 240
"""Characters of a value that a message shows."""
_DEEPEST = 32
"""Tables within tables."""
_MOST_THREADS = 1024


class _Given(NamedTuple):
    """A setting that a source gives a value."""

    key: str
    source: str

    def error(self, kind: type[Exception], must: str, value: Any, advice: str) -> Exception:
        """Return the error that tells a user."""
        try:
            got = short(repr(value))
        except RecursionError:
            got = f"a {type(value).__name__}"
        return kind(f"`{self.key}` must be {must}; got {got} ({self.source}).{advice}")


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
    at = _Given(key, source)
    return _backend(at, value, file=True) if file and key == "backend" else _CHECKS[key](at, value)


def checked_text(key: str, text: str, source: str) -> Any:
    """Return the value that an environment variable gives a setting."""
    value: Any = text.strip()
    if key == "backend" and "," in value:
        value = [name.strip() for name in value.split(",")]
    elif key in _WORDS:
        value = _WORDS[key](_Given(key, source), value)
    return checked(key, value, source)


def short(text: str) -> str:
    """Return a text that fits into a message: what is too long for a line loses its middle."""
    return text if len(text) <= _LINE else f"{text[: _LINE // 2]}…{text[-_LINE // 2 :]}"


def _backend(at: At, value: Any, *, file: bool = False) -> str | tuple[str, ...]:
    if value == "auto":
        return "auto"
    names = [value] if isinstance(value, str) else value
    listed = isinstance(names, (list, tuple)) and len(names) > 0
    if not listed or not all(isinstance(name, str) for name in names):
        must = 'the name of a backend, a list of names (the first usable one counts), or "auto"'
        refuse(at, TypeError, must, value)
    is_known = entry_points.is_listed if file else entry_points.is_known
    advice = " A file can name no other library: set_config and AGCLIP_BACKEND can." if file else ""
    for name in names:
        if not is_known(name):
            known = entry_points.known_names()
            must = f'"auto", or one or several of {", ".join(known)}'
            refuse(at, ValueError, must, value, hint(name, [*known, "auto"]) or advice)
    return value if isinstance(value, str) else tuple(value)


def _device(at: At, value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        refuse(at, TypeError, 'the name of a device, such as "cpu" or "cuda:0", or "auto"', value)
    return None if value == "auto" else value


def _one_of(words: Collection[str]) -> Check:
    def check(at: At, value: Any) -> str:
        _checks.choice(at, value, words, other=TypeError)
        return str(value)

    return check


def _threads(at: At, value: Any) -> int | Literal["own"] | None:
    if value in ("own", "auto"):
        return "own" if value == "own" else None
    other = ValueError if isinstance(value, str) else TypeError
    _checks.count(at, value, 1, _MOST_THREADS, none='one of "own", "auto"', other=other)
    return int(value)


def _flag(at: At, value: Any) -> bool:
    _checks.flag(at, value, "true or false")
    return bool(value)


def _tables(at: At, value: Any) -> tuple[Mapping[str, Any], ...]:
    tables = [value] if isinstance(value, Mapping) else value
    must = "a table, or an array of tables, each with the name of a `rule`"
    if not isinstance(tables, (list, tuple)) or not all(isinstance(t, Mapping) for t in tables):
        refuse(at, TypeError, must, value)
    for table in tables:
        if not isinstance(table.get("rule"), str):
            refuse(at, ValueError, must, value, hint(next(iter(table), ""), ["rule"]))
    if _deeper(tables, _DEEPEST):
        refuse(at, ValueError, f"nested at most {_DEEPEST} deep", value)
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
    "on_shard": _one_of(get_args(OnShard)),
    "accelerate": _one_of(get_args(Accelerate)),
    "threads": _threads,
    "nonfinite": _one_of(get_args(NonFinite)),
    "reproducible": _flag,
    "strict": _flag,
    "clip": _tables,
}

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _spoken_flag(at: At, text: str) -> bool:
    word = text.lower()
    if word not in (*_TRUE, *_FALSE):
        _checks.choice(at, text, (*_TRUE, *_FALSE), quote="")
    return word in _TRUE


def _spoken_number(_: At, text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) < 20 else text


def _spoken_table(at: At, text: str) -> Any:
    must = 'a table as TOML has it, such as { rule = "global_norm", clip_norm = 1.0 }'
    found, advice = {}, ""
    try:
        found = _toml.document(f"clip = {text}")
    except ValueError as error:
        advice = f" That is no TOML: {error}."
    if len(found) != 1:
        refuse(at, ValueError, must, text, advice)
    return found["clip"]


_WORDS: dict[str, Check] = {
    "threads": _spoken_number,
    "reproducible": _spoken_flag,
    "strict": _spoken_flag,
    "clip": _spoken_table,
}
