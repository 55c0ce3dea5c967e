"""Slices of all leaves at once: their sums of squares, and products with a number for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cupy

from agclip import adapters
from agclip.adapters import Factor
from agclip_backends._cuda.fused_source import RECORD
from agclip_backends.cupy import elementwise
from agclip_backends.cupy.devices import to_device
from agclip_backends.cupy.fused import seam


def sum_slices(_: Any, leaves: Sequence[Any], counts: Sequence[int]) -> Any:
    """Return Σ|x|² of slices of all leaves in one launch; None if it cannot be done so."""
    return seam.sums(leaves, counts)


def scale_slices(
    namespace: Any, leaves: Sequence[Any], counts: Sequence[int], factor: Factor, inplace: bool
) -> Sequence[Any] | None:
    """Return leaves with each slice times its own number, likewise."""

    def record() -> tuple[Any, int]:
        made = cupy.empty((sum(counts), RECORD), dtype=cupy.float64)
        parts = [_part(namespace, x, leaves[0]) for x in (*factor.narrow, *factor.wide)]
        elementwise.write_factors(made, parts)
        return made, int(made.data.ptr)

    return seam.multiply(leaves, record, inplace=inplace, slices=counts)


def _part(namespace: Any, part: Any, leaf: Any) -> Any:
    """Return a part of a factor as a float, or an array of float64 on a leaf's device."""
    if part is None or isinstance(part, float):
        return 1.0 if part is None else part
    return adapters.cast(namespace, to_device(part, leaf.device), namespace.float64)
