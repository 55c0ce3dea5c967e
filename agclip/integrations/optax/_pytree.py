"""What optax passes for updates and parameters: JAX pytrees, opened as JAX opens them.

The core sees a flat dict of the leaves by path. What is a node and what a leaf is JAX's to say:
parameters of some frameworks look like arrays and are nodes.
"""

from __future__ import annotations

import numbers
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from agclip._typing import Tree

_NAMES = ("key", "idx", "name")
"""Where the entries of JAX's key paths hold what leads to a child."""
_BOXED = jax.tree_util.GetAttrKey("value")


class Opened(NamedTuple):
    """A pytree that has been taken apart."""

    by_path: dict[str, Any]
    """Its leaves by paths such as "layers.0.bias"; None for the place of none."""
    structure: Any
    found: Sequence[Any]
    """Its leaves as they were, and what stands in the places of none."""

    @property
    def empty(self) -> bool:
        """Whether there is no leaf."""
        return all(leaf is None for leaf in self.by_path.values())

    @property
    def tree(self) -> Tree:
        """What the core sees: the leaves by path, or the one that is all there is."""
        return self.by_path[""] if self._bare else self.by_path

    @property
    def _bare(self) -> bool:
        return [*self.by_path] == [""]

    def map(self, function: Callable[[Any], Any]) -> Opened:
        """Return the same with a function of each leaf in its place."""
        new = {
            path: leaf if leaf is None or _holds_nothing(leaf) else function(leaf)
            for path, leaf in self.by_path.items()
        }
        return self._replace(by_path=new)

    def only(self, others: Opened) -> Opened:
        """Return the same with none where another tree has no leaf."""
        new = {
            path: None if others.by_path.get(path, leaf) is None else leaf
            for path, leaf in self.by_path.items()
        }
        return self._replace(by_path=new)

    def rebuild(self, tree: Any) -> Tree:
        """Return the pytree with other leaves, those of a tree such as `tree`."""
        by_path: Mapping[str, Any] = {"": tree} if self._bare else tree
        pairs = zip(self.by_path, self.found, strict=True)
        new = [one if self.by_path[path] is None else by_path[path] for path, one in pairs]
        return jax.tree_util.tree_unflatten(self.structure, new)


def opened(tree: Tree) -> Opened:
    """Take a pytree apart; numbers and arrays of NumPy become arrays of JAX."""
    entries, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_stands_alone)
    paths = _spelled([path for path, _ in entries])
    leaves = [leaf for _, leaf in entries]
    arrays = [None if _is_none(leaf) else _as_array(leaf) for leaf in leaves]
    return Opened(dict(zip(paths, arrays, strict=True)), structure, leaves)


def inexact(leaf: Any) -> Any:
    """Return a leaf as optax's products make it: floating-point, where it is integer or bool."""
    if isinstance(leaf, jax.Array) and not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return leaf.astype(jnp.result_type(float))
    return leaf


def is_inexact(leaf: Any) -> bool:
    """Tell whether a leaf is a real or complex floating-point array."""
    return isinstance(leaf, jax.Array) and bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def number(value: Any) -> Any:
    """Return the bound that an array of one element is."""
    if isinstance(value, (jax.Array, np.ndarray)):
        value = jnp.asarray(value)
        return value.reshape(()) if value.size == 1 else value
    return value


def _stands_alone(x: Any) -> bool:
    """Tell whether a node is a leaf here: the indices of a sparse array are no gradients."""
    sparse = sys.modules.get("jax.experimental.sparse")
    return _is_none(x) or (sparse is not None and isinstance(x, sparse.JAXSparse))


def _is_none(x: Any) -> bool:
    return x is None or isinstance(x, optax.MaskedNode)


def _holds_nothing(leaf: Any) -> bool:
    """Tell whether a leaf is the derivative by an integer."""
    return bool(getattr(leaf, "dtype", None) == jax.dtypes.float0)


def _as_array(leaf: Any) -> Any:
    if isinstance(leaf, (numbers.Number, np.ndarray)) and not _holds_nothing(leaf):
        return jnp.asarray(leaf)
    return leaf


def _spelled(paths: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return key paths as the rules spell them; in full where two would read alike."""
    short = [".".join(map(_step, path)) for path in _unboxed(paths)]
    count = Counter(short)
    return [
        name if count[name] == 1 else jax.tree_util.keystr(path)
        for name, path in zip(short, paths, strict=True)
    ]


def _unboxed(paths: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return paths without the last step where that is the one attribute `value`.

    Flax boxes an array in a variable or with its partitioning, and passes parameters in boxes to
    `init` but bare ones to `update` (Flax 0.12, `nnx.Optimizer`).
    """
    siblings = Counter(path[:-1] for path in paths)
    return [
        path[:-1] if path and path[-1] == _BOXED and siblings[path[:-1]] == 1 else path
        for path in paths
    ]


def _step(entry: Any) -> str:
    for name in _NAMES:
        if hasattr(entry, name):
            return str(getattr(entry, name))
    return str(entry)
