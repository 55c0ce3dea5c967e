"""Entry by entry on CuPy's arrays of any layout, with subnormal numbers kept.

CuPy (14.2) compiles its own kernels so that float32 below the normal range is taken for zero: in
products, comparisons and casts. These say in PTX what they do.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import cupy

from agclip.adapters import kind_of
from agclip_backends._cuda.arithmetic import (
    ARITHMETIC,
    FACTORS,
    LESS_EQUAL,
    MULTIPLY,
    NARROW,
    WIDEN,
    Operation,
)
from agclip_backends._cuda.halves import STATE
from agclip_backends._cuda.source import KINDS


@functools.cache
def _kernel(operation: Operation) -> Any:
    inputs, output, body = operation
    # CuPy (14) puts headers before it that want C++17.
    return cupy.ElementwiseKernel(
        inputs,
        output,
        body,
        "agclip_entries",
        preamble=ARITHMETIC,
        options=("--std=c++17", "--fmad=false"),
    )


def widen(x: Any) -> Any:
    """Return float32 as float64."""
    return _kernel(WIDEN)(x)


def narrow(x: Any) -> Any:
    """Return float64 as float32."""
    return _kernel(NARROW)(x)


def less_equal(a: Any, b: Any) -> Any:
    """Tell where a <= b, both float32."""
    return _kernel(LESS_EQUAL)(a, b)


def multiply(source: Any, target: Any, pre: Any, rest: Any) -> None:
    """Write (source * pre) * rest to the target, which may be the source itself.

    Args:
        source: An array of a real dtype that the kernels know.
        target: An array of its dtype and shape.
        pre: A float, or an array of float64 that broadcasts to the source.
        rest: Likewise.
    """
    kind = kind_of(source.dtype)
    if kind.half:
        source, target = source.view(cupy.uint16), target.view(cupy.uint16)
    _kernel(MULTIPLY[KINDS[kind.name]])(source, pre, rest, target)


def write_factors(records: Any, parts: Sequence[Any]) -> None:
    """Write the last words of the records of decisions that have been made, in one launch.

    Args:
        records: An array of float64 with a row for each slice.
        parts: Of `Factor.narrow` and `Factor.wide`: floats, or arrays of float64 with an element a
            slice, or without axes.
    """
    _kernel(FACTORS)(*parts, STATE, *(records[:, i] for i in range(-5, 0)))
