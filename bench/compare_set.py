"""The benchmarks of a comparison: run once in a fresh process, times printed as JSON.

    PYTHONPATH=TREE:TREE/backends python -P compare_set.py TREE [NAME ...]

It is run as a script beside a revision's own sources, so it imports nothing of this package.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import agclip

Call = Callable[[], object]

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "one": [(1,)],
    "small": [(64, 64)] * 20,
    "tiny": [(100,)] * 1000,
    "large": [(2_000_000,)],
}
SECONDS = 0.15
"""For a benchmark in a round."""
BURST = 5e-4
"""Seconds: shorter calls are repeated without a look at the clock."""
STEPS = 256
"""Calls in place until the values are restored; every one clips."""


def _numpy(shapes: list[tuple[int, ...]]) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def _torch(shapes: list[tuple[int, ...]]) -> list[Any]:
    import torch

    return [torch.from_numpy(leaf) for leaf in _numpy(shapes)]


def _jax(shapes: list[tuple[int, ...]]) -> list[Any]:
    import jax.numpy as jnp

    return [jnp.asarray(leaf) for leaf in _numpy(shapes)]


LIBRARIES = {"numpy": _numpy, "torch": _torch, "jax": _jax}


def _in_place(clip: Callable[[Any, float], object], grads: list[Any]) -> Call:
    """Clip with a bound that shrinks from call to call."""
    first = 0.5 * math.sqrt(sum(float((np.asarray(g) ** 2).sum()) for g in grads))
    was, calls = [np.array(g) for g in grads], 0

    def call() -> None:
        nonlocal calls
        calls += 1
        clip(grads, first * (1 - 2.0**-10) ** calls)
        if calls == STEPS:
            calls = 0
            for grad, values in zip(grads, was, strict=True):
                np.copyto(np.asarray(grad), values)

    return call


def _make(name: str) -> Call:
    """Return the call of a benchmark: "function/library/workload"."""
    function, library, workload = name.split("/")
    grads = LIBRARIES[library](SHAPES[workload])
    clip = getattr(agclip, function.removesuffix(" within"))
    if function.endswith("value_"):
        return lambda: clip(grads, -1.0, 1.0)
    if function.endswith(" within"):
        return lambda: clip(grads, 1e9)
    if function.endswith("_"):
        return _in_place(clip, grads)
    if library == "jax":
        import jax

        return lambda: jax.block_until_ready(clip(grads, 1.0))
    return lambda: clip(grads, 1.0)


NAMES = (
    *(f"clip_by_global_norm_/{lib}/{work}" for lib in ("numpy", "torch") for work in SHAPES),
    *(f"clip_by_global_norm_ within/{lib}/small" for lib in ("numpy", "torch")),
    *(f"clip_by_global_norm/{lib}/small" for lib in LIBRARIES),
    *(f"clip_by_value_/{lib}/small" for lib in ("numpy", "torch")),
    *(f"clip_by_norm_/{lib}/small" for lib in ("numpy", "torch")),
)


def measure(call: Call) -> float:
    """Return the seconds of a call in the fastest burst."""
    call()  # compiles, loads and allocates
    begin = time.perf_counter()
    call()
    calls = max(1, round(BURST / (time.perf_counter() - begin)))
    fastest, end = math.inf, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        fastest = min(fastest, (time.perf_counter() - begin) / calls)
    return fastest


def main(tree: str, names: list[str]) -> None:
    """Print the seconds of a call by name; what this revision or machine lacks is left out."""
    if Path(tree).resolve() not in Path(agclip.__file__).resolve().parents:
        sys.exit(f"agclip must be imported from {tree}; got {agclip.__file__}.")
    times = {}
    for name in names or NAMES:
        function, library, _ = name.split("/")
        known = hasattr(agclip, function.removesuffix(" within"))
        if known and importlib.util.find_spec(library):
            times[name] = measure(_make(name))
    print(json.dumps(times))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
