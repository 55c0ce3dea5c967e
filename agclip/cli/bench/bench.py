"""`agclip bench`: agclip against what else clips in each library, on this machine."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from typing import NamedTuple

import agclip
from agclip.cli.bench.peers import PEERED, contest
from agclip.cli.bench.timing import Ratio, compare
from agclip.cli.command import Command
from agclip.cli.command.arguments import add_backend, backend_of, positive
from agclip.cli.command.documents import print_json
from agclip.cli.command.tables import print_table

WORKLOADS = {
    "1 array of 4,000,000": ((4_000_000,),),
    "20 arrays of 64×64": ((64, 64),) * 20,
    "1000 arrays of 100": ((100,),) * 1000,
}
SECONDS = 1.0


class Row(NamedTuple):
    """One backend on one workload."""

    backend: str
    workload: str
    peer: str
    ratio: Ratio


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip bench`."""
    add_backend(parser, "every one that has a peer")
    parser.add_argument(
        "--seconds",
        type=positive,
        default=SECONDS,
        metavar="S",
        help="time for each backend and workload (%(default)s)",
    )


def run(args: Namespace) -> None:
    """Time agclip and its peers in turns, and print the ratios."""
    names = [backend_of(args, args.backend).name] if args.backend else _names()
    rows = [_row(name, workload, args.seconds) for name in names for workload in WORKLOADS]
    if args.json:
        document = [{**row._asdict(), "ratio": row.ratio._asdict()} for row in rows]
        print_json({"agclip": agclip.__version__, "rows": document})
        return
    header = ("backend", "float32", "against", "agclip", "ratio", "quartiles")
    table = [
        (
            row.backend,
            row.workload,
            row.peer,
            f"{row.ratio.seconds * 1e3:.3g} ms",
            f"{row.ratio.ratio:.2f}",
            f"{row.ratio.low:.2f}–{row.ratio.high:.2f}",
        )
        for row in rows
    ]
    print_table(header, table, left=(0, 1, 2))
    print(
        "Clipping a global norm; ratio: time of agclip divided by the other's, below 1 is faster."
    )


def _names() -> list[str]:
    """Return the backends that are timed when none is named: lazy ones have other worries."""
    return [row.name for row in agclip.backends() if row.usable and row.name in PEERED]


def _row(name: str, workload: str, seconds: float) -> Row:
    shapes = WORKLOADS[workload]
    # Half of the norm of ones: every call has to clip.
    clip_norm = math.sqrt(sum(math.prod(shape) for shape in shapes)) / 2
    pair = contest(name, shapes, clip_norm)
    return Row(name, workload, pair.peer, compare(pair.ours, pair.theirs, seconds))


COMMAND = Command(
    name="bench",
    summary="Time agclip against what else clips in each library, on this machine.",
    configure=configure,
    run=run,
)
