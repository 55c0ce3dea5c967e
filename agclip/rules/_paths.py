"""How rules spell the place of a leaf: `layers.0.bias`, whatever the containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agclip._leaves import Leaves
from agclip._tree import Node, Structure


def paths(leaves: Leaves) -> list[str]:
    """Return the path of every leaf: keys, positions and fields joined by dots.

    The leaf of a tree that is but an array has the empty path. A dict with the key "layers.0.bias"
    and nested containers give the same path, so a flat dict of parameters and a tree are alike.

    Raises:
        ValueError: If two leaves have the same path.
    """
    found = [_dotted(path) for path in _steps(leaves.structure, ())]
    if len(set(found)) != len(found):
        twice = next(path for path in found if found.count(path) > 1)
        msg = (
            f"`{leaves.name}` must have leaves of different paths, dots within keys included; got "
            f"{twice!r} twice. Rename a key."
        )
        raise ValueError(msg)
    return found


def absent(leaves: Leaves) -> list[str]:
    """Return the path of every place that holds None."""
    return [_dotted(path) for path in _steps(leaves.structure, (), absent=True)]


def _steps(
    structure: Structure, above: tuple[str, ...], *, absent: bool = False
) -> Iterator[tuple[str, ...]]:
    """Yield the keys that lead to every leaf, such as `("['layers']", "[0]")`, in order.

    With `absent` those that lead to every None instead.
    """
    if isinstance(structure, Node):
        for position, child in enumerate(structure.children):
            key = structure.keys[position] if structure.keys else f"[{position}]"
            yield from _steps(child, (*above, key), absent=absent)
    elif (structure is None) == absent:
        yield above


def _dotted(steps: tuple[str, ...]) -> str:
    return ".".join(_bare(step) for step in steps)


def _bare(step: str) -> str:
    """Return what stands in `['w']`, `[0]` or `.w`."""
    if step.startswith("["):
        step = step[1:-1]
        return step[1:-1] if step[:1] in ("'", '"') else step
    return step.removeprefix(".")


def known(leaves: Leaves, state: Mapping[str, object]) -> list[str]:
    """Return the path of every leaf, each of which a state must know.

    Raises:
        ValueError: If a path is new.
    """
    found = paths(leaves)
    for path in found:
        if path not in state:
            msg = (
                f"`{leaves.name}` must have the leaves that the state was made for; got a new one "
                f"at {path!r}. Make a new state with init(params)."
            )
            raise ValueError(msg)
    return found
