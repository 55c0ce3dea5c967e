"""A small array library that follows the Python Array API standard, for tests of third parties.

Its arrays hold NumPy's, but are no NumPy arrays and refuse to be taken for some: a program that
runs on them makes standard calls only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as xnp
import numpy as np

__version__ = "0.1"


class Array:
    """An array of the library."""

    def __init__(self, data: Any) -> None:
        self._data = np.asarray(data)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return namespace

    dtype = property(lambda self: self._data.dtype)
    shape = property(lambda self: self._data.shape)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    device = property(lambda self: "cpu")

    def __array__(self, *_: Any, **__: Any) -> Any:
        msg = "an array of toyarray is no NumPy array"
        raise TypeError(msg)

    def __getitem__(self, key: Any) -> Array:
        return Array(self._data[_bare(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._data[_bare(key)] = _bare(value)

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self._data)

    def __int__(self) -> int:
        return int(self._data)

    def __complex__(self) -> complex:
        return complex(self._data)

    def __repr__(self) -> str:
        return f"toyarray.Array({self._data.tolist()}, {self._data.dtype})"


def _bare(x: Any) -> Any:
    """Return what an argument holds, inside tuples and lists too."""
    if isinstance(x, Array):
        return x._data
    return type(x)(map(_bare, x)) if isinstance(x, (list, tuple)) else x


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of the library from one of NumPy."""

    def call(*args: Any, **kwargs: Any) -> Any:
        named = {key: _bare(value) for key, value in kwargs.items() if key != "device"}
        # Overflow and NaN are values here, not events: the library never warns.
        with np.errstate(all="ignore"):
            result = function(*map(_bare, args), **named)
        return Array(result) if isinstance(result, (np.ndarray, np.generic)) else result

    return call


_OPERATORS = (
    *("abs", "neg", "invert", "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv"),
    *("pow", "rpow", "and", "or", "lt", "le", "gt", "ge", "eq", "ne"),
)
for _name in _OPERATORS:
    setattr(Array, f"__{_name}__", _wrapped(getattr(np.ndarray, f"__{_name}__")))
Array.__hash__ = None  # type: ignore[assignment]


class _Namespace:
    """The functions of the standard, and the dtypes."""

    bool = np.dtype("bool")

    def __getattr__(self, name: str) -> Any:
        found = getattr(xnp, name)
        if isinstance(found, type):
            return np.dtype(found)
        return _wrapped(found) if callable(found) else found

    def __array_namespace_info__(self) -> Any:
        return xnp.__array_namespace_info__()


namespace = _Namespace()
