"""Cubed: lazy throughout, and every array belongs to a Spec, that of its computation.

Cubed computes with arrays of equal Specs only (0.27), and `device` is the word of the standard for
where an array has to be made for that. So a Spec is what agclip knows as the device.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from agclip import Backend

# By name: a type checker takes `cubed` for this file where the library is absent.
array_api: Any = importlib.import_module("cubed.array_api")
Spec: Any = importlib.import_module("cubed").Spec
Array: Any = array_api.Array

_CREATE = ("arange", "asarray", "empty", "full", "ones", "zeros")
_LIKE = ("empty_like", "full_like", "ones_like", "zeros_like")


def _of_a_spec(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes arrays, and takes a Spec for a device."""

    @functools.wraps(function)
    def made(*arguments: Any, device: Any = None, **options: Any) -> Any:
        if isinstance(device, Spec):
            options["spec"] = device
        return function(*arguments, **options)

    return made


def _namespace() -> Any:
    found = {name: value for name, value in vars(array_api).items() if not name.startswith("__")}
    found |= {name: _of_a_spec(found[name]) for name in (*_CREATE, *_LIKE)}
    info = array_api.__array_namespace_info__
    return SimpleNamespace(__name__="cubed", __array_namespace_info__=info, **found)


def _refuse(x: Any) -> str | None:
    return None if isinstance(x, Array) else "is no cubed.Array"


def _restore(leaf: Any, new: Any) -> Any:
    """Return a new array in the Spec of a leaf: what comes from another library has none."""
    if new.spec == leaf.spec:
        return new
    return array_api.asarray(new.compute(), chunks=leaf.chunksize, spec=leaf.spec)


xp = _namespace()
backend = Backend(
    name="cubed",
    xp=xp,
    refuse=_refuse,
    unwritable=lambda _: "is lazy (a plan, not memory)",
    device=lambda x: x.spec,
    acc_dtype=lambda _, __: xp.float64,
    restore=_restore,
)
