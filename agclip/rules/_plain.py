"""States as plain data, for saving, and back as arrays of any library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agclip._backends import kernels, registry
from agclip._backends.dtypes import kind_of
from agclip._checks import is_number
from agclip._trees.leaves import Leaves
from agclip._typing import Array
from agclip.rules import _memory
from agclip.rules._info import host_list
from agclip.rules._layout import COUNT, GROWING, JOINED, ByPath, Layout, Numbers
from agclip.rules._rule import State


def plain(state: State) -> Any:
    """Return a state with numbers and nested lists for arrays; nothing becomes an empty dict."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    if isinstance(state, tuple):
        return {}
    backend = registry.resolve(state)
    assert backend is not None, "a state holds arrays"
    with backend.context():
        read = host_list(state)
    return _typed(read, int if kind_of(state.dtype).family == "integer" else float)


def _typed(read: Any, kind: type) -> Any:
    if isinstance(read, (list, tuple)):
        return [_typed(one, kind) for one in read]
    return kind(read)


def checked(layout: Layout | None, saved: Any, path: str) -> Any:
    """Return saved data with lists for arrays, after a check of all that needs no gradients.

    Args:
        layout: What the state is made of; None for one of another's making, which is left alone.
        saved: What `plain` returned, there or elsewhere. An empty dict is a state not made yet.
        path: Where this part stands, for error messages.

    Raises:
        TypeError: If a part is of a wrong kind.
        ValueError: If keys, shapes or values are wrong.
    """
    if layout is None:
        return saved
    if isinstance(layout, Numbers):
        return _numbers(layout, saved, path)
    if not isinstance(saved, Mapping):
        msg = f"`{path}` must be a dict; got {type(saved).__name__}. {_ADVICE}"
        raise TypeError(msg)
    if isinstance(layout, ByPath):
        return {key: _numbers(layout.of, saved[key], f"{path}[{key!r}]") for key in saved}
    parts = _parts(layout)
    optional = parts.keys() - layout.keys()
    if saved and set(saved) - optional != set(layout):
        raise ValueError(_other_keys(path, layout, saved))
    made = {key: checked(parts[key], saved[key], f"{path}[{key!r}]") for key in saved}
    if made and isinstance(parts.get(GROWING), Numbers) and made["seen"] > len(made[GROWING]):
        msg = (
            f"`{path}['seen']` must be at most the length of 'history', {len(made[GROWING])}; got "
            f"{made['seen']}. {_ADVICE}"
        )
        raise ValueError(msg)
    return made


def made(layout: Layout | None, saved: Any, leaves: Leaves, template: State, path: str) -> State:
    """Return checked data as arrays of the library of leaves, on the device of the first one.

    Args:
        layout: As `checked` had it.
        saved: What `checked` returned.
        leaves: Leaves, at least one.
        template: What `init` returns; looked at for rules of others' making.
        path: Where this part stands, for error messages.
    """
    if layout is None:
        return restored(template, saved, path)
    if isinstance(layout, Numbers):
        return _memory.array(leaves, layout, saved)
    if isinstance(layout, ByPath):
        return {key: made(layout.of, one, leaves, (), path) for key, one in saved.items()}
    if not saved:
        return ()
    parts, known = _parts(layout), template if isinstance(template, dict) else {}
    return {
        key: made(parts[key], one, leaves, known.get(key, ()), f"{path}[{key!r}]")
        for key, one in saved.items()
    }


def paths_in(layout: Layout | None, saved: Any) -> list[str]:
    """Return the paths of the leaves that checked data speaks of."""
    if isinstance(layout, ByPath):
        return list(saved)
    if not isinstance(layout, dict):
        return []
    return [path for key in saved for path in paths_in(_parts(layout)[key], saved[key])]


def _parts(layout: dict[str, Any]) -> dict[str, Any]:
    """Return a layout with what may stand beside statistics of leaves."""
    of_leaves = any(isinstance(part, ByPath) for part in layout.values())
    return {**layout, JOINED: ByPath(COUNT)} if of_leaves else layout


def restored(template: State, saved: Any, path: str) -> State:
    """Return saved data as arrays like those of a state that a rule of another's making has made.

    Args:
        template: The state: its keys, shapes, dtypes, library and devices are taken.
        saved: What `plain` returned, there or elsewhere.
        path: Where this part stands, for error messages.

    Raises:
        TypeError: If a part is of a wrong kind.
        ValueError: If keys or shapes differ.
    """
    if not isinstance(template, (dict, tuple)):
        return _array(template, saved, path)
    keys = template if isinstance(template, dict) else {}
    if not isinstance(saved, Mapping):
        msg = f"`{path}` must be a dict; got {type(saved).__name__}. {_ADVICE}"
        raise TypeError(msg)
    if set(saved) != set(keys):
        raise ValueError(_other_keys(path, keys, saved))
    if not keys:
        return template
    return {key: restored(keys[key], saved[key], f"{path}[{key!r}]") for key in keys}


_ADVICE = "Load what state_dict() of the same rule on the same parameters returned."


def _other_keys(path: str, wanted: Any, found: Any) -> str:
    names = [", ".join(map(repr, keys)) or "none" for keys in (wanted, found)]
    return f"`{path}` must have the keys {names[0]}; got {names[1]}. {_ADVICE}"


def _array(template: Array, saved: Any, path: str) -> Array:
    shape = tuple(template.shape)
    found = _numbers(Numbers(None, shape=shape), saved, path)
    backend = registry.resolve(template)
    assert backend is not None, "a state holds arrays"
    with backend.context():
        return kernels.number(backend.xp, found, template.dtype, backend.device(template))


def _numbers(layout: Numbers, saved: Any, path: str) -> Any:
    """Return a number or nested lists of numbers, checked."""
    saved = saved.tolist() if hasattr(saved, "tolist") else saved
    found, wanted = _shape(saved, path), layout.shape
    if wanted is not None and not _fits(found, wanted):
        shown = "(any,)" if None in wanted else f"{wanted}"
        msg = f"`{path}` must have the shape {shown}; got {found}. {_ADVICE}"
        raise ValueError(msg)
    for value in _elements(saved):
        reason = layout.why_not(value)
        if reason is not None:
            assert layout.kind is not None, "it has been judged"
            must = f"{'hold' if found else 'be'} {layout.kind.must}"
            msg = f"`{path}` must {must}; got {reason}. {_ADVICE}"
            raise ValueError(msg)
    return _typed(saved, int if layout.integer else float) if layout.kind else saved


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(n == m or (m is None and n > 0) for n, m in pairs)


def _elements(saved: Any) -> Iterator[float]:
    if isinstance(saved, (list, tuple)):
        for one in saved:
            yield from _elements(one)
    else:
        yield saved


def _shape(saved: Any, path: str) -> tuple[int, ...]:
    if isinstance(saved, (list, tuple)):
        inner = {_shape(one, path) for one in saved}
        if len(inner) > 1:
            msg = f"`{path}` must not be ragged; got rows of several lengths. {_ADVICE}"
            raise ValueError(msg)
        return (len(saved), *(inner.pop() if inner else ()))
    if not is_number(saved):
        msg = f"`{path}` must hold numbers; got {type(saved).__name__}. {_ADVICE}"
        raise TypeError(msg)
    return ()
