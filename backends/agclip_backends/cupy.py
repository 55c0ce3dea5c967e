"""CuPy: everything stays on the device; the host is never waited for."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import array_api_compat.cupy as xp
import cupy

from agclip import Backend, _kernels
from agclip._dtypes import kind_of

BLOCK = 1 << 24
"""Elements that are widened at a time: a temporary of at most 128 MiB of device memory."""


def _sum_squares(namespace: Any, leaves: Sequence[Any], wide: Any, scale: Any) -> list[Any]:
    sums = []
    for leaf in leaves:
        pieces = list(_kernels.pieces(leaf, BLOCK))
        parts = _kernels.sum_squares(namespace, pieces, wide, scale)
        sums.append(functools.reduce(lambda a, b: a + b, parts))
    return sums


def _scale_in_place(namespace: Any, leaves: Sequence[Any], factor: _kernels.Factor) -> None:
    for leaf in leaves:
        kind = kind_of(leaf.dtype)
        if kind.half:
            for piece in _kernels.pieces(leaf, BLOCK):
                piece[...] = _kernels.scale(namespace, [piece], factor)[0]
            continue
        real = cupy.float64 if kind.precision == 53 else cupy.float32
        for part in factor.wide if kind.precision == 53 else factor.narrow:
            if part is not None:
                cupy.multiply(leaf, cupy.asarray(part, dtype=real), out=leaf)


def _unwritable(x: Any) -> str | None:
    if _kernels.overlaps_itself(x.shape, x.strides, x.itemsize):
        return "holds several entries in the same memory"
    return None


def _named_device(_: Any, name: str) -> Any:
    """Return the device of a name such as "cuda:0"."""
    kind, _, index = name.partition(":")
    known = {str(i): i for i in range(cupy.cuda.runtime.getDeviceCount())}
    number = known.get(index or "0") if kind == "cuda" else None
    return None if number is None else cupy.cuda.Device(number)


@functools.cache
def _usable() -> str | None:
    """Allocate and compute: CuPy imports on a machine without a driver, where neither works."""
    try:
        if float(cupy.ones(2).sum()) != 2:
            return "the sum of two ones is not two"
    except Exception as error:  # noqa: BLE001 - the reason is the answer
        return f"{type(error).__name__}: {error}"
    return None


backend = Backend(
    name="cupy",
    xp=xp,
    sum_squares=_sum_squares,
    scale_=_scale_in_place,
    unwritable=_unwritable,
    named_device=_named_device,
    usable=_usable,
    wide=lambda _, __: cupy.float64,
    export=lambda x: x if all(stride >= 0 for stride in x.strides) else x.copy(),
    block=BLOCK,
)
