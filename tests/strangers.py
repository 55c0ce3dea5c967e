"""Array libraries that agclip has no adapter for: how to make their arrays, and to look into them.

`make test-all` installs them, by the extra `strangers`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrays


def stranger(name: str) -> arrays.Library:
    """Return a library by its name; skip the test where it is not installed."""
    return _MAKERS[name]()


def _module(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed: `make test-all` does it")


def _dpnp() -> arrays.Library:
    _let_opencl_find_the_cpu()
    dpnp = _module("dpnp")
    if not importlib.import_module("dpctl").get_devices():
        pytest.skip("dpnp has no SYCL device here")
    return arrays.Library("dpnp", dpnp.asarray, dpnp.asnumpy)


def _let_opencl_find_the_cpu() -> None:
    """Name Intel's runtime for the CPU, whose wheel registers it nowhere (intel-opencl-rt 2026)."""
    runtime = Path(sys.prefix, "lib", "libintelocl.so")
    if runtime.exists():
        os.environ.setdefault("OCL_ICD_FILENAMES", str(runtime))


def _ndonnx() -> arrays.Library:
    ndonnx = _module("ndonnx")
    return arrays.Library("ndonnx", ndonnx.asarray, lambda x: np.asarray(x.unwrap_numpy()))


def _cubed() -> arrays.Library:
    _module("cubed")
    xp = importlib.import_module("cubed.array_api")
    return arrays.Library("cubed", xp.asarray, lambda x: np.asarray(x.compute()))


def _autograd() -> arrays.Library:
    _module("autograd")
    return arrays.Library("autograd", lambda values: values, np.asarray)


_MAKERS: dict[str, Callable[[], arrays.Library]] = {
    "dpnp": _dpnp,
    "ndonnx": _ndonnx,
    "cubed": _cubed,
}
NAMES = tuple(_MAKERS)
