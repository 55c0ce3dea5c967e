"""Products of tensors and a coefficient, in operations of TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from agclip.adapters import Factor, Scalar, kind_of
from agclip_backends.tensorflow import blocks, groups

Branch = Callable[..., Sequence[Any]]


def scale(xp: Any, leaves: Sequence[Any], factor: Factor, branch: Branch) -> Sequence[Any]:
    """Return each leaf times the factor: multiplied in float32 for half types, rounded once.

    Where the power of two is one, as it nearly always is, leaves are multiplied once that are worth
    a branch of their own.
    """
    fitted = {real: _fitted(xp, factor, real, leaves) for real in set(map(_real, leaves))}
    single = all(rest.shape.rank == 0 for _, rest in fitted.values())
    places = groups.alike(leaves) if single else [[i] for i in range(len(leaves))]
    new: list[Any] = [None] * len(leaves)
    apart: list[int] = []
    for group in places:
        leaf = leaves[group[0]]
        inverse, rest = fitted[_real(leaf)]
        if len(group) > 1:
            stacked = _multiplied(tf.stack([leaves[i] for i in group]), inverse, rest)
            for i, one in zip(group, tf.unstack(stacked, len(group)), strict=True):
                new[i] = one
        elif inverse is None or not single or groups.is_small(leaf):
            new[group[0]] = _multiplied(leaf, inverse, rest)
        else:
            apart.append(group[0])
    for i, one in zip(apart, _apart(xp, [leaves[i] for i in apart], fitted, branch), strict=True):
        new[i] = one
    return new


def _apart(xp: Any, leaves: Sequence[Any], fitted: dict[Any, Any], branch: Branch) -> Sequence[Any]:
    """Return products of leaves that are not small."""

    def scalars(leaf: Any) -> tuple[Any, Any]:
        inverse, rest = fitted[_real(leaf)]
        return inverse, rest

    found: list[Any] = [None] * len(leaves)
    many = groups.without_branches(leaves)
    products = blocks.called([leaves[i] for i in many], _twice, scalars)
    for i, one in zip(many, products, strict=True):
        found[i] = _multiplied(leaves[i], *scalars(leaves[i])) if one is None else one
        found[i].set_shape(leaves[i].shape)
    left = [i for i, one in enumerate(found) if one is None]
    if left:
        others = _in_branches(xp, [leaves[i] for i in left], fitted, branch)
        for i, one in zip(left, others, strict=True):
            found[i] = one
    return found


@functools.partial(tf.function, autograph=False)
def _twice(leaves: Sequence[Any], inverse: Any, rest: Any) -> Sequence[Any]:
    return [_multiplied(leaf, inverse, rest) for leaf in leaves]


def _in_branches(
    xp: Any, leaves: Sequence[Any], fitted: dict[Any, Any], branch: Branch
) -> Sequence[Any]:
    pairs = [(leaf, fitted[_real(leaf)]) for leaf in leaves]

    def twice() -> list[Any]:
        return [_multiplied(leaf, inverse, rest) for leaf, (inverse, rest) in pairs]

    def once() -> list[Any]:
        return [_multiplied(leaf, None, rest) for leaf, (_, rest) in pairs]

    ones = [tf.equal(inverse, 1.0) for inverse, _ in fitted.values() if inverse is not None]
    return branch(xp, functools.reduce(tf.logical_and, ones), once, twice)


def _real(leaf: Any) -> Any:
    return tf.float64 if kind_of(leaf.dtype).precision == 53 else tf.float32


def _fitted(xp: Any, factor: Factor, real: Any, leaves: Sequence[Any]) -> tuple[Any, Any]:
    """Return the reciprocal of the power of two, None for one, and the coefficient.

    A quotient by a power of two is exact. Of two products Grappler makes one, whose factor may
    underflow (TensorFlow 2.21): 2.5e38 · 2^-64 · 2^-76 would be 0.
    """
    pre, rest = factor.wide if real == tf.float64 else factor.narrow
    inverse = None
    if pre is not None:
        inverse = 1.0 / _in_dtype(xp, pre, real)
        if not tf.executing_eagerly() and not _follows(pre, leaves):
            inverse = _at_run_time(inverse, leaves[0])
    return inverse, _in_dtype(xp, rest, real)


def _follows(x: Any, leaves: Sequence[Any]) -> bool:
    """Tell whether a scalar is computed from every leaf: it is no constant, then, if they are not.

    Saves nine operations between a coefficient and the products.
    """
    if any(isinstance(one, float) or hasattr(one, "numpy") for one in (x, *leaves)):
        return False
    before, found = [x.op], {x.op}
    while before:
        op = before.pop()
        # Which branch is taken may be a constant.
        new = set() if op.type.endswith("If") else {source.op for source in op.inputs} - found
        found |= new
        before += new
    return all(leaf.op in found for leaf in leaves)


def _at_run_time(x: Any, leaf: Any) -> Any:
    """Return x, in a way that no compiler sees through: of two constants they make one, too."""
    some = tf.reshape(tf.math.real(leaf) if leaf.dtype.is_complex else leaf, [-1])[:1]
    one = tf.reduce_sum(tf.cast(some, tf.float32))
    never = (one > 1.0) & (one < 0.0)
    return tf.where(never, tf.ones_like(x), x)


def _in_dtype(xp: Any, part: Scalar, real: Any) -> Any:
    return xp.full((), part, dtype=real) if isinstance(part, float) else xp.astype(part, real)


def _multiplied(leaf: Any, inverse: Any, rest: Any) -> Any:
    if leaf.dtype.is_complex:
        # TensorFlow multiplies complex by complex alone: an infinity beside a 0 would be a NaN.
        halves = (tf.math.real(leaf), tf.math.imag(leaf))
        return tf.complex(*(_multiplied(half, inverse, rest) for half in halves))
    y = leaf if leaf.dtype == rest.dtype else tf.cast(leaf, rest.dtype)
    y = y if inverse is None else tf.raw_ops.RealDiv(x=y, y=inverse)
    y = tf.raw_ops.Mul(x=y, y=rest)
    return y if y.dtype == leaf.dtype else tf.cast(y, leaf.dtype)
