"""What agclip's functions must return, from the oracle's, in the notation of the vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from oracle import functions as reference
from oracle.functions import Tensor
from vectors.case import INTEGERS, Array, saturated
from vectors.notation import leaves_of, over_tree, result, with_results

# Units in the last place that a result may be off. An entry of a float32 leaf meets two roundings,
# that of the coefficient and that of the product; half types are multiplied in float32, so the
# second alone counts; in float64 the norm and the quotient are rounded too.
VALUES = {"float16": 0.51, "bfloat16": 0.51, "float32": 1.5, "float64": 2}
NORMS = {"float32": 1, "float64": 3}
# Sums over examples are formed in float64, and rounded once.
SUMS = {"float16": 0.51, "bfloat16": 0.51, "float32": 0.51, "float64": 2}

FRACTIONS = {order: Fraction(order) for order in (0.5, 1.5, 2.5)}


def _by_value(t: Any, low: Any, high: Any, *, loss_scale: float = 1.0) -> Any:
    exact_quotients = math.frexp(loss_scale)[0] == 0.5

    def clipped(x: Any) -> Any:
        if not isinstance(x, Array):
            return over_tree(x, clipped)
        bounds = [_bound(b, x.dtype) for b in (low, high)]
        limits = INTEGERS.get(x.dtype)
        exact = reference.clip_by_value(x.tensor, *bounds, limits=limits, loss_scale=loss_scale)
        return result(x, exact, {} if exact_quotients else VALUES)

    return clipped(t)


def _bound(bound: Any, dtype: str) -> Any:
    if isinstance(bound, Array):
        values = tuple(saturated(v, dtype) for v in bound.tensor.values)
        return Tensor(bound.tensor.shape, values)
    return None if bound is None else saturated(bound, dtype)


def _per_leaf(rule: Callable[..., Tensor]) -> Callable[..., Any]:
    def clipped(t: Any, bound: Any, *axes: Any, **options: Any) -> Any:
        if not isinstance(t, Array):
            return over_tree(t, lambda x: clipped(x, bound, *axes, **options))
        exact = rule(t.tensor, _number(bound), *axes, **_options(options))
        return result(t, exact, VALUES)

    return clipped


def _by_global_norm(t: Any, bound: Any, use_norm: Any = None, **options: Any) -> Any:
    leaves = list(leaves_of(t))
    exacts, norm = reference.clip_by_global_norm(
        [leaf.tensor for leaf in leaves], _number(bound), _number(use_norm), **_options(options)
    )
    tree = with_results(t, [result(x, e, VALUES) for x, e in zip(leaves, exacts, strict=True)])
    return {"tuple": [tree, _norm(leaves, norm)]}


def _global_norm(t: Any, ord: Any = 2, **options: Any) -> Any:
    leaves = list(leaves_of(t))
    options = _options({"ord": ord, **options})
    return _norm(leaves, reference.global_norm([leaf.tensor for leaf in leaves], **options))


def _norm(leaves: list[Array], exact: Any) -> Any:
    dtype = "float64" if any(leaf.component == "float64" for leaf in leaves) else "float32"
    anything = Array(dtype, Tensor((), (math.nan,)))
    return result(anything, Tensor((), (exact,)), NORMS)


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with an order that the oracle takes for the fraction it is."""
    if "ord" in options:
        options = {**options, "ord": FRACTIONS.get(options["ord"], options["ord"])}
    return options


def _number(x: Any) -> Any:
    """Return an argument that may be a 0-d array as a number."""
    return x.tensor.values[0] if isinstance(x, Array) else x


def _adaptive(
    grads: Any,
    params: Any,
    clipping: Any = 0.01,
    eps: Any = 1e-3,
    *,
    unit_axes: Any,
    **options: Any,
) -> Any:
    results = []
    for grad, param in _pairs(grads, params):
        axes = _unit(unit_axes, len(grad.tensor.shape))
        exact = reference.adaptive_grad_clip(
            grad.tensor, param.tensor, _number(clipping), eps, axes=axes, **options
        )
        results.append(result(grad, exact, VALUES))
    return with_results(grads, results)


def _pairs(grads: Any, params: Any) -> Iterator[tuple[Array, Array]]:
    if isinstance(grads, Array):
        yield grads, params
    elif grads is not None:
        for key in grads if isinstance(grads, dict) else range(len(grads)):
            yield from _pairs(grads[key], params[key])


def _unit(unit_axes: Any, ndim: int) -> Any:
    if ndim <= 1:
        return None
    if isinstance(unit_axes, str):
        return list(range(1, ndim) if unit_axes == "out_in" else range(ndim - 1))
    return unit_axes


def _per_example(grads: Any, bound: Any, **options: Any) -> Any:
    leaves = list(leaves_of(grads))
    exacts, count = reference.clip_per_example(
        [leaf.tensor for leaf in leaves], _number(bound), **options
    )
    tree = with_results(grads, [result(x, e, SUMS) for x, e in zip(leaves, exacts, strict=True)])
    counted = Array("int32", Tensor((), (count,)))
    return {"tuple": [tree, result(counted, counted.tensor, {})]}


RESULTS = {
    "clip_by_value": _by_value,
    "clip_by_norm": _per_leaf(reference.clip_by_norm),
    "clip_by_average_norm": _per_leaf(reference.clip_by_average_norm),
    "clip_by_rms": _per_leaf(reference.clip_by_rms),
    "clip_by_global_norm": _by_global_norm,
    "global_norm": _global_norm,
    "adaptive_grad_clip": _adaptive,
    "clip_per_example": _per_example,
}
