"""Dask: lazy throughout; a call builds a graph and computes nothing."""

from __future__ import annotations

from typing import Any

import array_api_compat.dask.array as xp
from dask.array import Array

from agclip import Backend


def _refuse(x: Any) -> str | None:
    return None if isinstance(x, Array) else "is no dask.array.Array"


backend = Backend(
    name="dask",
    xp=xp,
    refuse=_refuse,
    unwritable=lambda _: "is lazy (a graph, not memory)",
    device=lambda _: None,
    acc_dtype=lambda _, __: xp.float64,
)
