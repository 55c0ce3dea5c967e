"""Array libraries for which agclip has no kernels: how to make their arrays, and look into them.

`make test-all` installs them, by the extra `test-all`.
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

REASON = "installed by `make test-all`"


def stranger(name: str) -> arrays.Library:
    """Return a library by its name; skip the test where it is not installed."""
    return _MAKERS[name]()


def module(name: str) -> Any:
    """Return a module of such a library; skip the test where it is not installed."""
    return pytest.importorskip(name, reason=REASON)


def _dpnp() -> arrays.Library:
    # The wheel of Intel's OpenCL for the CPU is registered nowhere (intel-opencl-rt 2026.2).
    runtime = Path(sys.prefix, "lib", "libintelocl.so")
    if runtime.exists():
        os.environ.setdefault("OCL_ICD_FILENAMES", str(runtime))
    dpnp = module("dpnp")
    if not importlib.import_module("dpctl").get_devices():
        pytest.skip("dpnp has no SYCL device here")
    return arrays.Library("dpnp", dpnp.asarray, dpnp.asnumpy)


def _ndonnx() -> arrays.Library:
    ndonnx = module("ndonnx")
    _start_no_threads(importlib.import_module("onnxruntime"))
    return arrays.Library("ndonnx", ndonnx.asarray, lambda x: np.asarray(x.unwrap_numpy()))


def _start_no_threads(onnxruntime: Any) -> None:
    """Have sessions compute in the thread that calls: ndonnx makes one for each operation."""
    made = onnxruntime.SessionOptions
    if not isinstance(made, type):
        return

    def options() -> Any:
        new = made()
        new.intra_op_num_threads = 1
        return new

    onnxruntime.SessionOptions = options


def _cubed() -> arrays.Library:
    cubed = module("cubed")
    xp = importlib.import_module("cubed.array_api")
    # Not the Spec that arrays have without one.
    spec = cubed.Spec(allowed_mem="500MB")

    def convert(values: np.ndarray) -> Any:
        return xp.asarray(values, spec=spec)

    return arrays.Library("cubed", convert, lambda x: np.asarray(x.compute()))


_MAKERS: dict[str, Callable[[], arrays.Library]] = {
    "dpnp": _dpnp,
    "ndonnx": _ndonnx,
    "cubed": _cubed,
}
NAMES = tuple(_MAKERS)
STEPS = {"dpnp": 4, "ndonnx": 2, "cubed": 1}
STEPS_IN_PLACE = {"dpnp": 4, "ndonnx": 1}
"""How many steps of a run are taken: some compile each call, or start a program for it."""
WRITABLE = ("dpnp", "ndonnx")
READ = {"cubed": "ZClip"}
"""Of a library that computes for each value anew, the rule whose states and records are read."""
