"""How rules spell the place of a leaf: `layers.0.bias`, whatever the containers.

Steps are joined by dots. A key reads as it is, a position as its number. Where that could be read
in two ways the step stands in brackets, as Python spells the key: `['a.b'].c`, `[None]`. So no two
leaves of a tree have one path, and each path leads back to one leaf.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from agclip._trees.structure import LEAF, Node, Structure


def dotted(structure: Structure, *, absent: bool = False) -> list[str]:
    """Return the path of every leaf in order, or of every place that holds None.

    That of a tree that is but an array is empty.
    """
    if isinstance(structure, Node) and structure.flat:
        return [] if absent else _names(structure)
    return list(_below(structure, "", None if absent else LEAF))


def _below(structure: Structure, above: str, wanted: Structure) -> Iterator[str]:
    if isinstance(structure, Node):
        prefix = above and above + "."
        for name, child in zip(_names(structure), structure.children, strict=True):
            yield from _below(child, prefix + name, wanted)
    elif structure is wanted:
        yield above


def _names(node: Node) -> list[str]:
    """Return how the children of a container are spelled."""
    if node.keys is None:
        return [str(position) for position in range(len(node.children))]
    return spelled([_parsed(key) for key in node.keys] if node.key_format == "{}" else node.keys)


def _parsed(step: str) -> Any:
    """Return the key in `['w']`, `[0]` or `.w`, as libraries spell it; other text as it stands."""
    if not step.startswith("["):
        return step.removeprefix(".")
    try:
        return ast.literal_eval(step[1:-1])
    except (SyntaxError, ValueError):
        return step[1:-1]


def spelled(keys: Sequence[Any]) -> list[str]:
    """Return how the keys of one container are spelled, no two alike.

    A key with dots reads as it is, so that a flat dict with the key "layers.0.bias" and nested
    containers have the same path; unless a key beside it is what stands before one of its dots.
    """
    plain = [_plain(key) for key in keys]
    beside = set(plain)
    ordinary = [name for name in plain if name is not None and not _hidden(name, beside)]
    if len(beside) == len(plain) == len(ordinary):
        return ordinary
    strings = {key for key in keys if isinstance(key, str)}
    found: dict[str, None] = {}
    for position, (key, name) in enumerate(zip(keys, plain, strict=True)):
        taken = name in strings and not isinstance(key, str)
        step = f"[{_quoted(key)}]" if name is None or taken or _hidden(name, beside) else name
        # Keys that look alike are objects of a class of its own, or names given twice.
        found[f"[{_quoted(key)} at {position}]" if step in found else step] = None
    return list(found)


def _plain(key: Any) -> str | None:
    """Return an ordinary key as it reads in a path; None for one that needs brackets."""
    if isinstance(key, str):
        odd = "[" in key or "]" in key or ".." in f".{key}." or not key.isprintable()
        return None if odd else "".join(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))
    return None


def _hidden(name: str, beside: set[str | None]) -> bool:
    """Tell whether another key is what stands before a dot: "a" or "a.b" beside "a.b.c"."""
    dot = name.find(".")
    while dot >= 0:
        if name[:dot] in beside:
            return True
        dot = name.find(".", dot + 1)
    return False


def _quoted(key: Any) -> str:
    """Return what stands in brackets: a string quoted; of another key nothing that closes them."""
    if isinstance(key, str):
        return repr("".join(key))
    return repr(key).replace("[", "(").replace("]", ")")
