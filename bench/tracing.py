"""What it takes to trace a clip in `tf.function`, as a share of TensorFlow's own.

    PYTHONPATH=$PWD:$PWD/backends python -m bench.tracing

Each round is a process of its own, which traces both, in turns first: what agclip traces once in a
process is traced in each. Time is the processor's, of one thread, which neighbours hardly lengthen.
What is compiled at the first call is not in it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import agclip
from bench import report

COUNTS = (20, 200, 1000)
LENGTHS = ("100", "10000", "100000", "mixed")
"""Elements of each leaf; "mixed": 3000 and more, no two leaves the same number."""
ROUNDS = 4

Measured = tuple[float, int]


def _shapes(count: int, length: str) -> list[int]:
    return [3000 + 16 * i for i in range(count)] if length == "mixed" else [int(length)] * count


def operations(concrete: Any) -> int:
    """Return how many operations were made: those of inner functions, and their arguments, too."""
    graph = concrete.graph.as_graph_def()
    inner = graph.library.function
    return len(graph.node) + sum(len(one.node_def) + len(one.signature.input_arg) for one in inner)


def _traced(clip: Callable[..., Any], shapes: list[int]) -> Measured:
    import tensorflow as tf

    specs = [tf.TensorSpec([n], tf.float32) for n in shapes]
    function = tf.function(lambda leaves: clip(leaves, 1.0), autograph=False)
    begin = time.thread_time()
    concrete = function.get_concrete_function(specs)
    return time.thread_time() - begin, operations(concrete)


def _measure(count: int, length: str, turn: int) -> None:
    """Print what this process measures: agclip's, then TensorFlow's."""
    import tensorflow as tf

    clips = [agclip.clip_by_global_norm, tf.clip_by_global_norm]
    for clip in clips:
        _traced(clip, [2])  # what is imported late
    order = (0, 1) if turn % 2 == 0 else (1, 0)
    found = {k: _traced(clips[k], _shapes(count, length)) for k in order}
    print(json.dumps([found[0], found[1]]))


def _row(count: int, length: str) -> list[str]:
    pairs = []
    for turn in range(ROUNDS):
        command = [sys.executable, "-m", "bench.tracing", str(count), length, str(turn)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        pairs.append(json.loads(done.stdout))
    ours, theirs = ([pair[k] for pair in pairs] for k in (0, 1))
    ratio = statistics.median(a[0] / b[0] for a, b in pairs)
    seconds = [statistics.median(one[0] for one in side) for side in (ours, theirs)]
    return [
        f"{count} × {length}", *(f"{1e3 * x:.0f}" for x in seconds), f"{ratio:.2f}",
        *(f"{side[0][1] / count:.1f}" for side in (ours, theirs)),
        f"{ours[0][1] / theirs[0][1]:.2f}",
    ]  # fmt: skip


HEAD = (
    "", "agclip, ms", "TensorFlow, ms", "÷", "operations a leaf", "TensorFlow's", "÷",
)  # fmt: skip


def main() -> None:
    """Print the table."""
    if len(sys.argv) > 1:
        count, length, turn = sys.argv[1:]
        _measure(int(count), length, int(turn))
        return
    rows = [list(HEAD), *(_row(count, length) for length in LENGTHS for count in COUNTS)]
    report.show(rows)


if __name__ == "__main__":
    main()
