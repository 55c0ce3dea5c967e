"""What clips by the global norm cost beside the own ones of TensorFlow, in each mode, and of MLX.

    PYTHONPATH=$PWD:$PWD/backends python -m bench.own_clips [LIBRARY ...] [MODE ...]

LIBRARY is tensorflow or mlx, MODE eager, function or XLA; without one, all. Both clips of a row
take turns in one process. A traced function takes the bound as an argument, so that clipping and
within the bound it is one program; the first call, which compiles it, is timed apart.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import agclip
from bench import accelerate, checks, pairs, report
from bench.workloads import ONE_LEAF, RESNET50, SMALL, TINY, Workload

WORKLOADS = (SMALL, TINY, RESNET50, ONE_LEAF)
BOUNDS = {"clipped": 0.5, "within": 2.0}
"""As a part of the norm."""

Clip = Callable[[list[Any], Any], Any]


class Side(NamedTuple):
    """A library whose arrays are clipped, and whose clip is the reference.

    Attributes:
        name: Its name, for people.
        leaves: `leaves(workload)` → its arrays.
        theirs: `theirs(leaves, bound)` → the clipped leaves, and their norm.
        bound: `bound(number)` → what a program takes for a bound.
        modes: By name, what makes of a clip one that is timed.
    """

    name: str
    leaves: Callable[[Workload], list[Any]]
    theirs: Clip
    bound: Callable[[float], Any]
    modes: dict[str, Callable[[Clip], Clip]]


def _tensorflow() -> Side:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tf = importlib.import_module("tensorflow")

    def traced(**options: Any) -> Callable[[Clip], Clip]:
        def build(clip: Clip) -> Clip:
            # To bind all arguments that a clip may have takes a call 0.3 ms.
            def step(leaves: list[Any], bound: Any) -> Any:
                return clip(leaves, bound)

            made: Clip = tf.function(step, autograph=False, **options)
            return made

        return build

    return Side(
        name="TensorFlow",
        leaves=lambda workload: [tf.constant(leaf) for leaf in workload.gradients()],
        theirs=tf.clip_by_global_norm,
        bound=tf.constant,
        modes={"eager": _as_it_is, "function": traced(), "XLA": traced(jit_compile=True)},
    )


def _mlx() -> Side:
    mx = importlib.import_module("mlx.core")
    optimizers = importlib.import_module("mlx.optimizers")

    def computed(clip: Clip) -> Clip:
        def call(leaves: list[Any], bound: Any) -> Any:
            found = clip(leaves, bound)
            mx.eval(found)
            return found

        return call

    def leaves(workload: Workload) -> list[Any]:
        made = [mx.array(leaf) for leaf in workload.gradients()]
        mx.eval(made)
        return made

    return Side("MLX", leaves, optimizers.clip_grad_norm, float, {"eager": computed})


SIDES: dict[str, Callable[[], Side]] = {"tensorflow": _tensorflow, "mlx": _mlx}
MODES = ("eager", "function", "XLA")


def _as_it_is(clip: Clip) -> Clip:
    return clip


def rows(side: Side, chosen: Sequence[str]) -> Iterator[list[str]]:
    """Yield a row of the table for each workload and mode."""
    for workload in WORKLOADS:
        leaves = side.leaves(workload)
        norm = checks.norm(leaves)
        for mode in chosen:
            if mode not in side.modes:
                continue
            clips = {
                "agclip": side.modes[mode](agclip.clip_by_global_norm),
                "theirs": side.modes[mode](side.theirs),
            }
            # Eagerly a bound is a number, as in most programs.
            make = float if mode == "eager" else side.bound
            bounds = {kind: make(part * norm) for kind, part in BOUNDS.items()}
            yield [workload.title, mode, *_row(clips, leaves, bounds)]


def _row(clips: dict[str, Clip], leaves: list[Any], bounds: dict[str, Any]) -> Iterator[str]:
    """Yield the cells: two ratios with their quartiles, and the seconds of the first calls."""
    first = []
    for clip in clips.values():
        begin = time.perf_counter()
        clip(leaves, bounds["clipped"])
        first.append(time.perf_counter() - begin)
    for kind, bound in bounds.items():
        calls = {
            name: lambda clip=clip, bound=bound: clip(leaves, bound) for name, clip in clips.items()
        }
        found = pairs.ratio(pairs.alternate(calls, lambda _: nullcontext()), "agclip", "theirs")
        _check(calls["agclip"]()[0], leaves, kind, float(bound))
        yield f"{found.median:.2f}"
        yield f"{found.low:.2f} – {found.high:.2f}"
    yield " / ".join(f"{seconds:.2f}" for seconds in first)


def _check(clipped: list[Any], leaves: list[Any], kind: str, bound: float) -> None:
    """Fail if a clip did not do what was timed."""
    done = checks.norm_is_bound if kind == "clipped" else checks.unchanged
    if not done(clipped, leaves, bound):
        message = f"a clip {kind} of {len(leaves)} leaves to {bound} is wrong"
        raise AssertionError(message)


def main(chosen: Sequence[str]) -> None:
    """Print a table for each library."""
    unknown = [name for name in chosen if name not in SIDES and name not in MODES]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join((*SIDES, *MODES))}")
    accelerate.use()
    modes = [name for name in chosen if name in MODES] or MODES
    for name in [name for name in chosen if name in SIDES] or SIDES:
        side = SIDES[name]()
        head = ["clipped", "quartiles", "within", "quartiles", "first calls, s"]
        shown = [[f"agclip ÷ {side.name}", "", *head]]
        for row in rows(side, modes):
            print(" | ".join(row), file=sys.stderr, flush=True)
            shown.append(row)
        report.show(shown)
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
