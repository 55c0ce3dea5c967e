"""Every rule as a transformation of optax."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from agclip._checks import flag
from agclip._trees.paths import spelled
from agclip._typing import Tree
from agclip.integrations.optax._pytree import Opened, is_inexact, opened
from agclip.rules._info import ClipInfo
from agclip.rules._layout import grows, layout_of
from agclip.rules._rule import Rule, check_rule


class ClipState(NamedTuple):
    """The state of a rule that is a transformation: a pytree of arrays that keeps its structure.

    `optax.tree.get(opt_state, "norm")` finds a field of the record in the state of a whole
    optimizer.

    Attributes:
        memory: What the rule remembers; `()` for nothing.
        info: The record of the last step, on devices, which nobody has read. Before the first step
            its norm is 0, its scale 1 and its threshold infinite. None if it is not asked for.

    Example:
        >>> import agclip, jax.numpy as jnp
        >>> from agclip.integrations.optax import as_gradient_transformation
        >>> clipping = as_gradient_transformation(agclip.ClipByGlobalNorm(1.0))
        >>> grads = {"w": jnp.asarray([3.0, 4.0])}
        >>> _, state = clipping.update(grads, clipping.init(grads))
        >>> state.memory, float(state.info.norm)
        ((), 5.0)
    """

    memory: Any
    info: ClipInfo | None


def as_gradient_transformation(
    rule: Rule, *, info: bool = True, leaf_norms: bool = False
) -> optax.GradientTransformation:
    """Return a rule as a transformation of optax.

    It goes wherever optax's own go: into `chain`, `masked`, `partition`, `inject_hyperparams`,
    `apply_if_finite`, `MultiSteps`; into `jax.jit`, where it is compiled once for all steps,
    `lax.scan`, and checkpoints. The leaves are known to the rule by paths such as "layers.0.bias".
    `None` and `optax.MaskedNode` are left as they are. Numbers of the state are of JAX's default
    precision: float32, or float64 where `jax_enable_x64` is set.

    Args:
        rule: The rule, with memory or without. Its state must have one shape for all steps, so
            `AutoClip` needs a window.
        info: Whether the record of the last step is kept in the state: a few scalars. A compiler
            leaves out what it takes where nobody asks for it.
        leaf_norms: Whether the record holds the norm of each leaf, a scalar each: NaN for a leaf
            that no rule looks at.

    Returns:
        The transformation; its state is a `ClipState`.

    Raises:
        TypeError: If `rule` is no rule, or an option no bool.
        ValueError: If the state of the rule grows.

    Example:
        >>> import agclip, jax.numpy as jnp, optax
        >>> from agclip.integrations.optax import as_gradient_transformation
        >>> clipping = as_gradient_transformation(agclip.ZClip(max_norm=1.0))
        >>> tx = optax.chain(clipping, optax.sgd(0.5))
        >>> params = {"w": jnp.zeros(2)}
        >>> updates, state = tx.update({"w": jnp.asarray([3.0, 4.0])}, tx.init(params), params)
        >>> updates["w"], optax.tree.get(state, "norm")
        (Array([-0.3, -0.4], dtype=float32), Array(5., dtype=float32))
    """
    check_rule("rule", rule)
    flag("info", info)
    flag("leaf_norms", leaf_norms)
    _require_one_shape(rule)

    def init(params: Tree) -> Any:
        # Integers among the parameters have no gradients.
        found = opened(params).map(lambda leaf: leaf if is_inexact(leaf) else None)
        made = rule.init(found.tree) if found.by_path else _outline(layout_of(rule))
        memory = jax.tree.map(_canonical, made)
        return _apart(ClipState(memory, _blank(found, leaf_norms=leaf_norms) if info else None))

    def update(updates: Tree, state: Any, params: Tree | None = None) -> tuple[Tree, Any]:
        found = opened(updates)
        if found.empty:
            return updates, state
        weights = None if params is None else opened(params).only(found).tree
        clipped, memory, record = rule.update(found.tree, state.memory, weights)
        record = record._replace(leaf_norms=_norms(found, record) if leaf_norms else {})
        new = ClipState(memory, record if info else None)
        return found.rebuild(clipped), _apart(_as_before(new, state))

    return optax.GradientTransformation(init, update)


def _canonical(x: Any, dtype: Any = None) -> jax.Array:
    """Return a number of a state in a dtype that stays, whatever is done to the state.

    Rules count and sum in float64. Where JAX is not told to, that would not outlive the first
    conversion, and no number may be of a weak type, by which a program is compiled again.
    """
    dtype = jax.dtypes.canonicalize_dtype(x.dtype if dtype is None else dtype)
    return jax.lax.convert_element_type(x, dtype)


def _as_before(new: ClipState, old: ClipState) -> ClipState:
    """Return a state in the dtypes of the one before, which gradients may have others than."""
    structure: Any = jax.tree.structure
    made: ClipState
    if structure(new) == structure(old):
        made = jax.tree.map(lambda x, y: _canonical(x, y.dtype), new, old)
    else:
        made = jax.tree.map(_canonical, new)
    return made


def _apart(state: ClipState) -> ClipState:
    """Return a state no array of which stands there twice: it could not be donated."""
    seen: set[int] = set()

    def own(x: jax.Array) -> jax.Array:
        again = id(x) in seen and not isinstance(x, Tracer)
        seen.add(id(x))
        return jnp.copy(x) if again else x

    made: ClipState = jax.tree.map(own, state)
    return made


def _blank(found: Opened, *, leaf_norms: bool) -> ClipInfo:
    """Return the record before the first step."""
    real = jnp.result_type(float)
    norms: Any = {path: jnp.zeros((), real) for path in _paths(found)} or jnp.zeros((), real)
    return ClipInfo(
        norm=jnp.zeros((), real),
        scale=jnp.ones((), real),
        threshold=jnp.full((), jnp.inf, real),
        clipped=jnp.zeros((), bool),
        nonfinite=jnp.zeros((), bool),
        leaf_norms=norms if leaf_norms else {},
        skip=jnp.zeros((), bool),
    )


def _outline(layout: Any) -> Any:
    """Return a state for parameters that there are none of, an array for each part.

    `optax.tree.map_params` makes one to tell what in a state belongs to parameters: nothing here.
    An array may stand for a dict there, but not a dict for one with other keys.
    """
    if isinstance(layout, dict):
        return {key: _outline(part) for key, part in layout.items()} or ()
    return () if layout is None else jnp.zeros(())


def _norms(found: Opened, record: ClipInfo) -> dict[str, Any]:
    """Return the norm of every leaf, NaN for one that no rule has looked at."""
    missing = jnp.full((), jnp.nan, jnp.result_type(float))
    return {path: record.leaf_norms.get(path, missing) for path in _paths(found)}


def _paths(found: Opened) -> list[str]:
    """Return the paths of the leaves as records spell them."""
    keys = list(found.by_path)
    pairs = zip(keys if keys == [""] else spelled(keys), found.by_path.values(), strict=True)
    return [path for path, leaf in pairs if leaf is not None]


def _require_one_shape(rule: Rule) -> None:
    """Raise a ValueError if a part of the state of a rule grows."""
    if grows(rule):
        msg = (
            f"`rule` must have a state of one shape for all steps; got {rule!r}, whose history "
            f"grows. Give AutoClip a window, such as 1000."
        )
        raise ValueError(msg)
