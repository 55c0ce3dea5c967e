"""Products of leaves and a coefficient, in operations of MLX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from agclip import adapters
from agclip.adapters import Factor
from agclip_backends.mlx import groups


@mx.custom_function
def complex_of(real: Any, imaginary: Any) -> Any:
    """Return a complex array of its two parts: bits alone, for which MLX has no derivative."""
    pairs = mx.stack([real, imaginary], axis=-1)
    return pairs.view(mx.complex64).squeeze(-1)


@complex_of.vjp
def _derivative(_: Any, cotangent: Any, __: Any) -> tuple[Any, Any]:
    return mx.real(cotangent), mx.imag(cotangent)


def scale(xp: Any, leaves: Sequence[Any], factor: Factor) -> list[Any]:
    """Return each leaf times the factor: multiplied in float32 for half types, rounded once."""
    if any(getattr(part, "ndim", 0) for part in (*factor.narrow, *factor.wide)):
        return [_scaled(xp, leaf, factor) for leaf in leaves]
    new: list[Any] = [None] * len(leaves)
    for places in groups.alike(leaves):
        first = leaves[places[0]]
        if len(places) == 1:
            new[places[0]] = _scaled(xp, first, factor)
            continue
        product = _scaled(xp, groups.joined(leaves, places), factor)
        for i, one in zip(places, groups.apart(product, first, len(places)), strict=True):
            new[i] = one
    return new


def _scaled(xp: Any, leaf: Any, factor: Factor) -> Any:
    # Times a complex number, -0 would become 0, and an infinity beside a 0 a NaN.
    parts = adapters.scale(xp, adapters.real_parts(xp, leaf), factor)
    return parts[0] if len(parts) == 1 else complex_of(*parts)


def scale_(xp: Any, leaves: Sequence[Any], factor: Factor) -> None:
    """Give each leaf the elements that it has times the factor."""
    for leaf, new in zip(leaves, scale(xp, leaves, factor), strict=True):
        leaf[...] = new
