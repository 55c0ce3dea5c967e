"""A norm over 1 to 100,000 ranks, simulated: all-reduces by dissemination, with measured latencies.

    PYTHONPATH=$PWD:$PWD/backends python -m bench.rank_model

In each of ⌈log₂ n⌉ rounds every rank waits for a message of another: α + bytes·β after it was sent,
and an exponential delay on top. α and β come from `results/ranks.json`, of all-reduces of 64 bytes
and of 1 MiB between two ranks; so does the mean delay. Several dimensions of a mesh have an
all-reduce each, and the ranks of a dimension wait for the slowest of theirs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from bench.ranks import FLOOR, LARGE, RESULTS

PICTURE = Path(__file__).parents[1] / "docs" / "evidence" / "ranks.png"
RANKS = (1, 2, 4, 8, 16, 64, 256, 1024, 4096, 16_384, 65_536, 100_000)
SHOWN = (8, 1024, 100_000)
TURNS = 5
PARAMETERS = 300
STAGES = 8


class Wire(NamedTuple):
    """What a message costs, in seconds."""

    latency: float
    a_byte: float
    delay: float
    """The mean of what is added now and then."""


class Clipper(NamedTuple):
    """What a norm sends: for so many ranks the size of each group in turn, with the bytes."""

    name: str
    sends: Callable[[int], Sequence[tuple[int, int]]]
    style: str


def _stages(n: int) -> tuple[int, int]:
    return (n // STAGES, STAGES) if n >= STAGES else (n, 1)


CLIPPERS = (
    Clipper("agclip", lambda n: [(n, 64)], "-"),
    Clipper("agclip, reproducible", lambda n: [(n, 48), (n, 56)], "--"),
    Clipper(f"agclip, {STAGES} pipeline stages", lambda n: [(k, 64) for k in _stages(n)], ":"),
    Clipper("PyTorch, DTensors of one mesh", lambda n: [(n, 4 * PARAMETERS)], "-"),
    Clipper(
        f"torchtitan, {STAGES} pipeline stages",
        lambda n: list(zip(_stages(n), (4 * PARAMETERS, 4), strict=True)),
        ":",
    ),
    Clipper("Megatron-LM", lambda n: [(n, 4)], "-."),
)
_COLOURS = ("#0072B2", "#0072B2", "#0072B2", "#D55E00", "#E69F00", "#009E73")


def measured() -> Wire:
    """Return what the bench has measured between two ranks."""
    rows = json.loads(RESULTS.read_text())["rows"]
    two = {row["name"]: row for row in rows if row["ranks"] == 2}
    latency = two[FLOOR]["us"] * 1e-6
    delay = (two[FLOOR]["median us"] * 1e-6 - latency) / math.log(2)
    return Wire(latency, max(two[LARGE]["us"] * 1e-6 - latency, 0.0) / 2**20, delay)


def simulated(clipper: Clipper, ranks: int, wire: Wire, rng: np.random.Generator) -> float:
    """Return the seconds until the last rank has its norm, the mean of a few turns."""
    found = []
    for _ in range(TURNS):
        ready = 0.0  # when the slowest rank begins the next all-reduce
        for size, count in clipper.sends(ranks):
            times = np.full(size, ready)
            for k in range(math.ceil(math.log2(size))):
                other = np.roll(times, 2**k)
                hop = wire.latency + count * wire.a_byte + rng.exponential(wire.delay, size)
                times = np.maximum(times, other) + hop
            ready = float(times.max())
        found.append(ready)
    return float(np.mean(found))


def table(found: dict[str, list[float]]) -> str:
    heads = " | ".join(f"{n:,} ranks, ms" for n in SHOWN)
    lines = [f"| | {heads} |", "| --- |" + " ---: |" * len(SHOWN)]
    for name, times in found.items():
        cells = " | ".join(f"{times[RANKS.index(n)] * 1e3:.1f}" for n in SHOWN)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def drawn(found: dict[str, list[float]], wire: Wire) -> Figure:
    """Return the picture."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes: Any = figure.subplots()
    for clipper, colour in zip(CLIPPERS, _COLOURS, strict=True):
        times = [seconds * 1e3 for seconds in found[clipper.name]]
        axes.plot(RANKS, times, clipper.style, color=colour, label=clipper.name, lw=1.8)
    axes.set_xscale("log")
    axes.set_xlabel("ranks")
    axes.set_ylabel("milliseconds for a norm")
    axes.set_title(
        f"Simulated, {wire.latency * 1e6:.0f} µs a message", loc="left", fontsize=10, weight="bold"
    )
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.rank_model", description=__doc__)
    parser.add_argument("--latency", type=float, help="microseconds, in the place of the measured")
    options = parser.parse_args()
    wire, rng = measured(), np.random.default_rng(0)
    if options.latency is not None:
        wire = Wire(options.latency * 1e-6, 0.0, 0.0)
    found = {one.name: [simulated(one, n, wire, rng) for n in RANKS] for one in CLIPPERS}
    print({name: f"{value:.3g} s" for name, value in wire._asdict().items()})
    print(table(found))
    if options.latency is None:
        drawn(found, wire).savefig(PICTURE, format="png", dpi=90)


if __name__ == "__main__":
    main()
