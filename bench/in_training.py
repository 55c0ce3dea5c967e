"""What a clip costs right after a library's own work, as in training: nothing pauses before it.

    PYTHONPATH=$PWD:$PWD/backends python -m bench.in_training [clips] [steps]

The other contests wait until PyTorch's threads stop spinning. Here they still do, on the cores that
a clip wants, and so do those of OpenBLAS.

`clips` times clips of many sizes, each right after a backward pass of a small layer, or for NumPy
after a product of matrices. `steps` times whole steps of training, with each clip in its place.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

import agclip
from bench import accelerate, builds, checks, report
from bench.arrays import numpy_copies, torch_copies
from bench.bounds import Bounds
from bench.pairs import Times, ratio
from bench.training_steps import STEPS, Step
from bench.workloads import Shape, Workload

REFERENCE = "torch"
ROUNDS = 11
TURN = 5
"""Calls of a contender in a round, each after its library's work: the fastest one counts, for what
disturbs one only makes it slower."""
STEPS_TAKEN = 40


def _bert_like() -> tuple[Shape, ...]:
    """Return 90 leaves: a table of words, and five layers with their biases and norms."""
    width = 640
    layer: list[Shape] = [(width, width), (width,)] * 4
    layer += [(4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    layer += [(width,)] * 4
    return ((25_000, width), (512, width), *layer * 5, *[(width,)] * 8)


def _many_sizes() -> tuple[Shape, ...]:
    sizes = np.random.default_rng(0).lognormal(10.0, 1.5, 200)
    return tuple((max(1, round(12e6 * size / sizes.sum())),) for size in sizes)


def _alike(count: int, size: int) -> Workload:
    return Workload(f"{count}x{size}", f"{count} × {size:,}", ((size,),) * count)


WORKLOADS = (
    Workload("bert", "BERT-like, 90 leaves, 41 M", _bert_like()),
    _alike(25, 1_000_000),
    Workload("ragged", "200 ragged leaves, 12 M", _many_sizes()),
    _alike(50, 100_000),
    _alike(50, 40_000),
)


def torch_works() -> Callable[[], object]:
    """Return a backward pass, at the end of which the threads of PyTorch's team spin."""
    layer = torch.nn.Linear(256, 256)
    rows = torch.randn(512, 256)
    return lambda: layer(rows).square().mean().backward()


def numpy_works() -> Callable[[], object]:
    """Return a product of matrices, long enough for PyTorch's threads to stop spinning."""
    matrix = np.ones((640, 640), np.float32)
    return lambda: matrix @ matrix


class Contender(NamedTuple):
    """A clip, the work of its library that it comes after, and what it runs within."""

    build: builds.Build
    works: Callable[[], Callable[[], object]] = torch_works
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


def _threads(value: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: agclip.config_context(threads=value)


_OURS = agclip.clip_by_global_norm_
_TENSORS = builds.overwriting(torch_copies, _OURS)
_ARRAYS = builds.overwriting(numpy_copies, _OURS)


def contenders(*, clips: bool) -> dict[str, Contender]:
    """Return all that are timed in turn, by name."""
    least = (builds.read, builds.scale_) if clips else (builds.read,)
    return {
        REFERENCE: Contender(builds.overwriting_grads(torch.nn.utils.clip_grad_norm_)),
        "agclip-torch": Contender(_TENSORS),
        "agclip-torch, own threads": Contender(_TENSORS, around=_threads("own")),
        "agclip-numpy": Contender(_ARRAYS, numpy_works),
        "agclip-numpy, one thread": Contender(_ARRAYS, numpy_works, _threads(1)),
        "read + scale" if clips else "read": Contender(builds.passes(*least)),
    }


def measure(workload: Workload, *, clips: bool) -> Times:
    """Return the seconds of a call of each contender in every round."""
    gradients = workload.gradients()
    first = checks.norm(gradients) * (0.5 if clips else 2.0)
    calls = {}
    for name, (build, works, around) in contenders(clips=clips).items():
        call = build(gradients, Bounds(first, clips=clips))
        calls[name] = works(), call, around
    times: Times = {name: [] for name in calls}
    order = list(calls)
    for _ in range(ROUNDS + 1):
        for name in order:
            works, call, around = calls[name]
            with around():
                times[name].append(min(_after(works, call) for _ in range(TURN)))
        order.reverse()
    return {name: seconds[1:] for name, seconds in times.items()}  # the first compiles


def _after(works: Callable[[], object], call: Callable[[], object]) -> float:
    works()
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def clips() -> Iterator[str]:
    """Yield the lines of two tables: clips, and norms within the bound."""
    for state in (True, False):
        names = list(contenders(clips=state))
        rows = [["" if state else "within the bound", *names]]
        for workload in WORKLOADS:
            times = measure(workload, clips=state)
            rows.append([workload.title, *(_cell(times, name) for name in names)])
        yield f"{'Clipping' if state else 'Within the bound'}: ms, and the ratio to {REFERENCE}"
        yield ""
        yield from report.table([["", *names], *rows[1:]])
        yield ""


def _cell(times: Times, name: str) -> str:
    shown = f"{statistics.median(times[name]) * 1e3:.2f}"
    return shown if name == REFERENCE else f"{shown} ({ratio(times, name, REFERENCE).median:.2f})"


def steps() -> Iterator[str]:
    """Yield the lines of a table of training steps."""
    head = (
        "a step of",
        "clip",
        "step, ms",
        "clip, ms",
        "its share",
        "clip ÷ peer's",
        "step ÷ peer's",
    )
    rows = [[*head]]
    for title, make in STEPS.items():
        made = make()
        peer = next(iter(made))
        found = _alternate(made)
        for name, seconds in found.items():
            whole, part = (statistics.median(column) * 1e3 for column in zip(*seconds, strict=True))
            clips, wholes = (_quotient(seconds, found[peer], column) for column in (1, 0))
            numbers = f"{whole:.2f}", f"{part:.3f}", f"{part / whole:.1%}", clips, wholes
            rows.append([title, name, *numbers])
    yield "Steps of training; a clip's time is that within the step"
    yield ""
    yield from report.table(rows)
    yield ""


def _quotient(
    own: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]], column: int
) -> str:
    """Return the ratio of two kinds of step; none if the clip is lost in the noise of a program."""
    pairs = [(a[column], b[column]) for a, b in zip(own, others, strict=True)]
    if min(map(min, pairs)) <= 0:
        return "–"
    return f"{statistics.median(a / b for a, b in pairs):.2f}"


def _alternate(made: Mapping[str, Step]) -> dict[str, list[tuple[float, float]]]:
    """Take a step of each kind in turn: the seconds of the whole, and of its clip."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    order = list(made)
    for count in range(STEPS_TAKEN + 3):
        for name in order:
            seconds = made[name]()
            if count >= 3:  # the first ones compile and allocate
                found[name].append(seconds)
        order.reverse()
    return found


PARTS: dict[str, Callable[[], Iterator[str]]] = {"clips": clips, "steps": steps}


if __name__ == "__main__":
    accelerate.use()
    report.show_parts(PARTS, sys.argv[1:])
