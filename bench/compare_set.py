"""The benchmarks of a comparison: run once in a fresh process, times printed as JSON.

    PYTHONPATH=TREE:TREE/backends python -P compare_set.py TREE [NAME ...]

It is run as a script beside a revision's own sources, so it imports nothing of this package.
"""

from __future__ import annotations

import importlib.util
import itertools
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

TRAINING = " in training"
"""How the names end of those that are timed right after their library's own work: it leaves
threads behind that spin on the cores which a clip wants (`in_training.py`)."""
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "one": [(1,)],
    "small": [(64, 64)] * 20,
    "tiny": [(100,)] * 1000,
    "large": [(2_000_000,)],
    "50x40000": [(40_000,)] * 50,
    "50x100000": [(100_000,)] * 50,
    "25x1000000": [(1_000_000,)] * 25,
}
SECONDS = 0.15
"""For a benchmark in a round."""
WORKING = 0.5
"""For one in training, of which most is the work before the clip."""
LEAST_CALLS = 6
BURST = 5e-4
"""Seconds: shorter calls are repeated without a look at the clock."""
STEPS = 256
"""Calls in place until the values are restored; every one clips."""
MODEL = (784, 1024, 1024, 10)
"""The widths of a network, a step of which is "mlp"."""
ROWS = 128


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


def _torch_works() -> Call:
    import torch

    layer, rows = torch.nn.Linear(256, 256), torch.randn(512, 256)
    return lambda: layer(rows).square().mean().backward()


def _numpy_works() -> Call:
    matrix = np.ones((640, 640), np.float32)
    return lambda: matrix @ matrix


def _torch_step(clip: Callable[[Any, float], object]) -> tuple[Call, Call]:
    """Return all of a step of training but its clip, and the clip: of new gradients each time."""
    import torch

    layers = [torch.nn.Linear(*pair) for pair in itertools.pairwise(MODEL)]
    model = torch.nn.Sequential(*(f for layer in layers for f in (layer, torch.nn.ReLU())))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, foreach=True)
    rows = torch.randn(ROWS, MODEL[0])

    def works() -> None:
        optimizer.step()
        optimizer.zero_grad()
        model(rows).square().mean().backward()

    return works, lambda: clip([x.grad for x in model.parameters()], 1e-4)


def _jax_step(clip: Callable[[Any, float], object]) -> tuple[Call, Call]:
    """Return a compiled backward pass, and a compiled clip of its gradients."""
    import jax
    import jax.numpy as jnp

    rows = jax.random.normal(jax.random.key(0), (ROWS, MODEL[0]))
    weights = [jnp.full(pair, 0.03) for pair in itertools.pairwise(MODEL)]

    def loss(weights: Any) -> Any:
        x = rows
        for weight in weights:
            x = jnp.maximum(x @ weight, 0.0)
        return (x * x).mean()

    backward, grads = jax.jit(jax.grad(loss)), [weights]
    program = jax.jit(lambda leaves: clip(leaves, 1e-4))

    def works() -> None:
        grads[0] = jax.block_until_ready(backward(weights))

    return works, lambda: jax.block_until_ready(program(grads[0]))


WORKS = {"numpy": _numpy_works, "torch": _torch_works}
STEPS_OF = {"torch": _torch_step, "jax": _jax_step}


def in_training(name: str) -> tuple[Call, Call]:
    """Return a library's work and the clip after it, of a benchmark in training."""
    plain = name.removesuffix(TRAINING)
    function, library, workload = plain.split("/")
    if workload == "mlp":
        return STEPS_OF[library](getattr(agclip, function))
    return WORKS[library](), _make(plain)


ALONE = (
    *(
        f"clip_by_global_norm_/{lib}/{work}"
        for lib in ("numpy", "torch")
        for work in ("one", "small", "tiny", "large")
    ),
    *(f"clip_by_global_norm_ within/{lib}/small" for lib in ("numpy", "torch")),
    *(f"clip_by_global_norm/{lib}/small" for lib in LIBRARIES),
    *(f"clip_by_value_/{lib}/small" for lib in ("numpy", "torch")),
    *(f"clip_by_norm_/{lib}/small" for lib in ("numpy", "torch")),
)
"""Those that are measured in a process with one thread."""
AFTER_WORK = tuple(
    name + TRAINING
    for name in (
        *(f"clip_by_global_norm_/torch/{n}" for n in ("50x40000", "50x100000", "25x1000000")),
        "clip_by_global_norm_ within/torch/50x100000",
        "clip_by_global_norm_/numpy/50x100000",
        "clip_by_global_norm_/torch/mlp",
        "clip_by_global_norm/jax/mlp",
    )
)
"""Those in a process with as many threads as the libraries like."""
NAMES = ALONE + AFTER_WORK


def measure_after(works: Call, call: Call) -> float:
    """Return the seconds of the fastest call, each right after work that does not count."""
    fastest, calls, end = math.inf, 0, time.perf_counter() + WORKING
    while calls < LEAST_CALLS or time.perf_counter() < end:
        works()
        begin = time.perf_counter()
        call()
        calls += 1
        if calls > 1:  # the first one compiles, loads and allocates
            fastest = min(fastest, time.perf_counter() - begin)
    return fastest


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
        if not known or not importlib.util.find_spec(library):
            continue
        if name.endswith(TRAINING):
            times[name] = measure_after(*in_training(name))
        else:
            times[name] = measure(_make(name))
    print(json.dumps(times))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
