"""States as plain data, for saving, and back as arrays of any library."""

from __future__ import annotations

from typing import Any

from agclip import _kernels, _registry
from agclip._dtypes import kind_of
from agclip._typing import Array
from agclip.rules._info import host_list
from agclip.rules._rule import State

GROWING = "history"
"""The key of an array that grows, and may be of any length."""


def plain(state: State) -> Any:
    """Return a state with numbers and nested lists for arrays; nothing becomes an empty dict."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    if isinstance(state, tuple):
        return {}
    backend = _registry.resolve(state)
    assert backend is not None, "a state holds arrays"
    with backend.context():
        read = host_list(state)
    return _typed(read, int if kind_of(state.dtype).family == "integer" else float)


def _typed(read: Any, kind: type) -> Any:
    return [_typed(one, kind) for one in read] if isinstance(read, list) else kind(read)


def restored(template: State, saved: Any, path: str) -> State:
    """Return saved data as arrays like those of a state that the rule has made.

    Args:
        template: The state: its keys, shapes, dtypes, library and devices are taken.
        saved: What `plain` returned, there or elsewhere.
        path: Where this part stands, for error messages.

    Raises:
        TypeError: If a part is of a wrong kind.
        ValueError: If keys or shapes differ.
    """
    if isinstance(template, (dict, tuple)):
        keys = template if isinstance(template, dict) else {}
        if not isinstance(saved, dict):
            msg = f"`{path}` must be a dict; got {type(saved).__name__}. {_ADVICE}"
            raise TypeError(msg)
        if set(saved) != set(keys):
            msg = f"`{path}` must have the keys {_listed(keys)}; got {_listed(saved)}. {_ADVICE}"
            raise ValueError(msg)
        if not keys:
            return template
        return {key: restored(keys[key], saved[key], f"{path}[{key!r}]") for key in keys}
    return _array(template, saved, path)


_ADVICE = "Load what state_dict() of the same rule on the same parameters returned."


def _listed(keys: Any) -> str:
    return ", ".join(map(repr, keys)) or "none"


def _array(template: Array, saved: Any, path: str) -> Array:
    saved = saved.tolist() if hasattr(saved, "tolist") else saved
    shape = _shape(saved, path)
    grown = path.endswith(f"[{GROWING!r}]") and len(shape) == 1
    if shape != tuple(template.shape) and not grown:
        msg = f"`{path}` must have the shape {tuple(template.shape)}; got {shape}. {_ADVICE}"
        raise ValueError(msg)
    backend = _registry.resolve(template)
    assert backend is not None, "a state holds arrays"
    with backend.context():
        return _kernels.number(backend.xp, saved, template.dtype, backend.device(template))


def _shape(saved: Any, path: str) -> tuple[int, ...]:
    if isinstance(saved, list):
        inner = {_shape(one, path) for one in saved}
        if len(inner) > 1:
            msg = f"`{path}` must not be ragged; got rows of several lengths. {_ADVICE}"
            raise ValueError(msg)
        return (len(saved), *(inner.pop() if inner else ()))
    if isinstance(saved, bool) or not isinstance(saved, (int, float)):
        msg = f"`{path}` must hold numbers; got {type(saved).__name__}. {_ADVICE}"
        raise TypeError(msg)
    return ()
