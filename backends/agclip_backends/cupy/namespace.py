"""CuPy in the standard's terms, with what it loses kept: dtypes, signs and subnormal numbers."""

from __future__ import annotations

import contextlib
import importlib
import math
from typing import Any

import array_api_compat.cupy
import cupy

from agclip_backends.cupy import elementwise
from agclip_backends.cupy.devices import at, first, following, to_device

xp: Any = array_api_compat.cupy

__all__ = ["asarray", "astype", "less_equal", "to_device", "where"]


def __getattr__(name: str) -> Any:
    if name == "bfloat16" and (bfloat16 := _bfloat16()) is not None:
        return bfloat16
    found = getattr(xp, name)
    return following(found) if callable(found) and not isinstance(found, type) else found


def _bfloat16() -> Any:
    """Return the dtype, which CuPy (14) takes from `ml_dtypes` and has no name for, or None."""
    with contextlib.suppress(ImportError):
        return cupy.dtype(importlib.import_module("ml_dtypes").bfloat16)
    return None


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    """Return an array; a zero keeps its sign.

    CuPy (14.2) makes an array without axes of a number that equals zero by clearing its memory.
    """
    if device is None:
        made = at(obj, xp.asarray, obj, dtype=dtype, copy=copy)
    else:
        made = xp.asarray(obj, dtype=dtype, device=device, copy=copy)
    if isinstance(obj, float) and obj == 0 and math.copysign(1.0, obj) < 0:
        at(made, cupy.negative, made, out=made)
    return made


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """Return an array in a dtype; what is subnormal in float32 does not become zero."""
    return at(x, _cast, x, dtype, copy=copy, device=device)


def _cast(x: Any, dtype: Any, *, copy: bool, device: Any) -> Any:
    before, after = x.dtype, cupy.dtype(dtype)
    if device is None and after == cupy.float64 and _is_float32(before):
        return elementwise.widen(x.astype(cupy.float32, copy=False))
    if device is None and before == cupy.float64 and after == cupy.float32:
        return elementwise.narrow(x)
    if device is None and before == cupy.complex64 and after == cupy.complex128:
        return _complex(x)
    return xp.astype(x, dtype, copy=copy, device=device)


def _complex(x: Any) -> Any:
    made = cupy.empty(x.shape, cupy.complex128)
    made.real, made.imag = elementwise.widen(x.real), elementwise.widen(x.imag)
    return made


def less_equal(x1: Any, x2: Any, /) -> Any:
    """Tell where x1 <= x2, subnormal numbers included."""
    return at(x1, _less_equal, x1, x2)


def _less_equal(x1: Any, x2: Any) -> Any:
    if _is_float32(x1.dtype) and _is_float32(x2.dtype):
        return elementwise.less_equal(*(x.astype(cupy.float32, copy=False) for x in (x1, x2)))
    return cupy.less_equal(x1, x2)


def _is_float32(dtype: Any) -> bool:
    """Tell whether numbers of a dtype are float32 to CuPy when it computes with them."""
    return bool(dtype == cupy.float32) or dtype.name == "bfloat16"


def where(condition: Any, x1: Any, x2: Any, /) -> Any:
    """Choose elements; two arrays of one dtype give another one of it.

    CuPy (14.2) makes float32 of bfloat16, which its table for `where` lacks.
    """
    return at(first((x1, x2, condition)), _where, condition, x1, x2)


def _where(condition: Any, x1: Any, x2: Any) -> Any:
    kinds = {getattr(x, "dtype", None) for x in (x1, x2)}
    if {str(kind) for kind in kinds} != {"bfloat16"}:
        return xp.where(condition, x1, x2)
    chosen = cupy.where(condition, x1.view(cupy.uint16), x2.view(cupy.uint16))
    return chosen.view(x1.dtype)
