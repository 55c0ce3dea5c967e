"""What clips cost inside of a program that `jax.jit` compiles, beside optax's in another.

    PYTHONPATH=$PWD:$PWD/backends python -m bench.in_jit [NAME ...]

A name is a part of a workload's. "donated": the program may write its results over its arguments.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import agclip
from bench import pairs, report
from bench.workloads import COUNTS, RAGGED, RESNET50, SIZES, SMALL, Workload

Function = Callable[..., Any]


class Pair(NamedTuple):
    """A clip of ours and one of optax's, of the same arguments; with the gradients come first."""

    title: str
    arguments: Callable[[], tuple[Any, ...]]
    ours: Function
    theirs: Function
    donated: bool = False


def _transformed(transform: Any) -> Function:
    def clip(grads: Any, params: Any = None) -> Any:
        return transform.update(grads, transform.init(grads), params)[0]

    return clip


def _leaves(workload: Workload) -> Callable[[], tuple[Any, ...]]:
    return lambda: ([jnp.asarray(leaf) for leaf in workload.gradients()],)


def _alike(*shapes: tuple[int, ...]) -> Callable[[], list[Any]]:
    def made() -> list[Any]:
        rng = np.random.default_rng(0)
        return [jnp.asarray(rng.standard_normal(s, dtype=np.float32)) for s in shapes]

    return made


_MATRICES = _alike(*[(256, 256), (256,)] * 8)
_EXAMPLES = _alike(*[(64, 128, 128), (64, 128)] * 4)


def _global(workload: Workload, title: str = "") -> Iterator[Pair]:
    bound = 0.5 * workload.elements**0.5
    title = title or workload.title
    for donated in (False, True):
        yield Pair(
            f"{title}, global norm{', donated' if donated else ''}",
            _leaves(workload),
            lambda grads: agclip.clip_by_global_norm(grads, bound)[0],
            _transformed(optax.clip_by_global_norm(bound)),
            donated,
        )


def every_pair() -> Iterator[Pair]:
    """Yield all pairs."""
    for workload in (COUNTS[2], COUNTS[3]):
        yield from _global(workload, f"{workload.title} leaves of one element")
    for workload in (SMALL, RAGGED, RESNET50):
        yield from _global(workload)
    for workload in SIZES[1:]:
        title = f"one leaf of {workload.title}"
        yield from _global(workload, title)
        yield Pair(
            f"{title}, the norm alone", _leaves(workload), agclip.global_norm, optax.tree.norm
        )
    for workload in (SMALL, RESNET50):
        yield Pair(
            f"{workload.title}, block rms",
            _leaves(workload),
            lambda grads: agclip.clip_by_rms(grads, 0.5),
            _transformed(optax.clip_by_block_rms(0.5)),
        )
        yield Pair(
            f"{workload.title}, by value",
            _leaves(workload),
            lambda grads: agclip.clip_by_value(grads, -0.5, 0.5),
            _transformed(optax.clip(0.5)),
        )
    yield Pair(
        "16 leaves of 256, adaptive",
        lambda: (_MATRICES(), _MATRICES()),
        lambda grads, params: agclip.adaptive_grad_clip(grads, params, 0.01, unit_axes="in_out"),
        _transformed(optax.adaptive_grad_clip(0.01)),
    )
    yield Pair(
        "64 examples, 8 leaves, 4.2 M, per example",
        lambda: (_EXAMPLES(),),
        lambda grads: agclip.clip_per_example(grads, 64.0),
        lambda grads: optax.per_example_global_norm_clip(grads, 64.0),
    )


def _call(clip: Function, pair: Pair) -> tuple[Callable[[], object], float]:
    """Return a call that waits for its results, and the seconds until it was compiled."""
    arguments = pair.arguments()
    compiled = jax.jit(clip, donate_argnums=0 if pair.donated else ())
    begin = time.perf_counter()
    program = compiled.lower(*arguments).compile()
    seconds = time.perf_counter() - begin

    def call() -> object:
        return jax.block_until_ready(program(*arguments))

    held = list(arguments)

    def again() -> object:
        # What is donated is gone: the next call takes what this one returned.
        held[0] = jax.block_until_ready(program(*held))
        return held[0]

    return again if pair.donated else call, seconds


def rows(chosen: Sequence[str]) -> Iterator[list[str]]:
    """Yield a row of the table for each pair."""
    for pair in every_pair():
        if chosen and not any(name in pair.title for name in chosen):
            continue
        calls, seconds = {}, {}
        for name, clip in (("agclip", pair.ours), ("optax", pair.theirs)):
            calls[name], seconds[name] = _call(clip, pair)
        times = pairs.alternate(calls, lambda _: nullcontext())
        found = pairs.ratio(times, "agclip", "optax")
        shown = [f"{statistics.median(times[name]) * 1e3:.3f}" for name in calls]
        compiled = f"{seconds['agclip']:.2f} / {seconds['optax']:.2f}"
        quartiles = f"{found.low:.2f} – {found.high:.2f}"
        yield [pair.title, *shown, f"{found.median:.2f}", quartiles, compiled]


def main(chosen: Sequence[str]) -> None:
    """Print the table."""
    head = ["in jax.jit", "agclip, ms", "optax, ms", "ratio", "quartiles", "compiled in, s"]
    shown = [head]
    for row in rows(chosen):
        print(" | ".join(row), file=sys.stderr, flush=True)
        shown.append(row)
    print("\n".join(report.table(shown)))
    machine = ", ".join(str(value) for value in report.machine_class().values())
    print(f"{time.strftime('%Y-%m')}; {machine} cores;")
    print(", ".join(f"{library} {number}" for library, number in report.versions().items()) + ".")


if __name__ == "__main__":
    main(sys.argv[1:])
