"""Clippers keep what they remember, which code that is being compiled must not make them do."""

from __future__ import annotations

from typing import Any

from agclip._backends.registry import resolve
from agclip._trees.literals import Literal
from agclip._trees.tree import flatten
from agclip._typing import Tree
from agclip.rules._layout import holds_arrays
from agclip.rules._rule import State


def refuse_traced(grads: Tree, state: State) -> None:
    """Raise if a state of arrays would be kept by code that is being compiled.

    Raises:
        ValueError: If it would.
    """
    if not holds_arrays(state):
        return
    for leaf in flatten(grads, "grads", listed=True)[0]:
        backend = None if isinstance(leaf, Literal) else resolve(leaf)
        if backend is None or backend.access(leaf) != "never" or backend.replays():
            continue
        msg = (
            f"`grads` must hold values where a clipper keeps the state; got traced arrays of "
            f"{backend.name}. Inside of a compiled function call rule.update(grads, state), and "
            f"pass the state through."
        )
        raise ValueError(msg)


def is_traced(x: Any) -> bool:
    """Tell whether an array has no value yet."""
    backend = resolve(x)
    return backend is not None and backend.access(x) == "never"
