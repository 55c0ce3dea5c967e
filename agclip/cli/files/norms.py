"""`agclip norms`: the norm of every array of a file."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from agclip.cli.command import Command
from agclip.cli.command.arguments import listed, order
from agclip.cli.command.documents import print_json
from agclip.cli.command.tables import print_table
from agclip.cli.files.measure import OVERFLOWN, Measured, combined, is_measured, measure
from agclip.cli.files.named import opened, passed_over
from agclip.cli.files.readers import Leaf

HEADER = ("array", "dtype", "shape", "norm", "share", "NaN", "inf")
WORDS = (0, 1, 2)


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip norms`."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help=".npz, .npy, .safetensors or .pt")
    add("--ord", type=order, default=2.0, metavar="P", help="order of the norm (2)")


def run(args: Namespace) -> None:
    """Measure one array after the other."""
    with opened(args.file, "FILE") as source:
        leaves = source.leaves
        parts = [
            measure(source.read(place), args.ord) if is_measured(leaf.dtype) else None
            for place, leaf in enumerate(leaves)
        ]
    total = combined([part for part in parts if part is not None], args.ord)
    shares = [None if part is None else share(part.norm, total.norm, args.ord) for part in parts]
    if args.json:
        print_json(_document(args, leaves, parts, shares, total))
        return
    rows = [_row(*row) for row in zip(leaves, parts, shares, strict=True)]
    last = ("all", "", "", f"{total.norm:.6g}", "", str(total.nan), str(total.inf))
    print_table(HEADER, [*rows, last], WORDS)
    for line in _notes(args, leaves, total):
        print(line)


def share(norm: float, total: float, order: float) -> float:
    """Return the part that a leaf has in the sum of powers under the norm of all."""
    if total == 0 or not math.isfinite(total):
        return math.nan
    quotient = norm / total
    return quotient if order == math.inf else quotient**order


def _row(leaf: Leaf, part: Measured | None, part_of_all: float | None) -> tuple[str, ...]:
    shape = "×".join(map(str, leaf.shape)) or "scalar"
    if part is None or part_of_all is None:
        return (leaf.name, leaf.dtype, shape, "–", "–", "–", "–")
    percent = f"{100 * part_of_all:.2f} %" if math.isfinite(part_of_all) else "–"
    return (
        leaf.name, leaf.dtype, shape, f"{part.norm:.6g}", percent, str(part.nan), str(part.inf)
    )  # fmt: skip


def _notes(args: Namespace, leaves: Sequence[Leaf], total: Measured) -> list[str]:
    """Say what the columns are, and what is missing."""
    if args.ord == math.inf:
        what = "norm: the largest absolute value; share: of that of all."
    else:
        what = f"norm: of order {args.ord:g}, in float64; share: of the sum of {args.ord:g}-powers."
        if args.ord == 2:
            what = "norm: l2, in float64; share: of the squared norm."
    notes = [what]
    plain, others = passed_over(leaves)
    if plain:
        notes.append(f"{len(plain)} without a norm: integers, booleans or text.")
    if others:
        names = listed([f"{leaf.name}, {leaf.dtype}" for leaf in others], "; ")
        notes.append(f"{len(others)} without a norm, of dtypes that agclip does not clip: {names}.")
    if total.overflown:
        notes.append(OVERFLOWN)
    if not total.finite:
        notes.append("NaN or infinities: the norm of all is not finite, and nobody has a share.")
    return notes


def _document(
    args: Namespace,
    leaves: Sequence[Leaf],
    parts: Sequence[Measured | None],
    shares: Sequence[float | None],
    total: Measured,
) -> dict[str, object]:
    rows = zip(leaves, parts, shares, strict=True)
    return {
        "file": str(args.file),
        "ord": "inf" if args.ord == math.inf else args.ord,
        "norm": total.norm,
        "nan": total.nan,
        "inf": total.inf,
        "arrays": [
            {
                "name": leaf.name,
                "dtype": leaf.dtype,
                "shape": leaf.shape,
                "norm": part and part.norm,
                "share": part_of_all,
                "nan": part and part.nan,
                "inf": part and part.inf,
            }
            for leaf, part, part_of_all in rows
        ],
    }


COMMAND = Command(
    name="norms",
    summary="Show the norm of every array of a file, and of all together.",
    configure=configure,
    run=run,
)
