"""`agclip plot`: the gradient norms of a training log, and what a threshold clips of them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from agclip.cli._arguments import bound, png
from agclip.cli._command import Command
from agclip.cli._json import print_json
from agclip.cli._log_file import add_log, describe, history_of
from agclip.cli._log_plot import save_log_picture
from agclip.cli._output import require_writable
from agclip.cli._plot import require_matplotlib
from agclip.cli._thresholds import thresholds

MARKED = 5
"""The rate, in percent, whose clipped steps are marked when no threshold is given."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip plot`."""
    add_log(parser)
    add = parser.add_argument
    add("-o", "--output", type=png, required=True, metavar="PNG", help="where to write the picture")
    add(
        "--clip-norm",
        type=bound,
        metavar="C",
        help=f"mark the steps above this threshold (that of {MARKED} %% if left out)",
    )


def run(args: Namespace) -> None:
    """Draw the picture.

    Args:
        args: The arguments that `configure` adds.

    Raises:
        CommandError: The log cannot be read, matplotlib is missing, or the picture cannot be
            written.
    """
    history = history_of(args)
    require_matplotlib()
    require_writable(args.output, "FILE.png")
    found = thresholds(history.norms)
    chosen = args.clip_norm
    if chosen is None:
        chosen = next(row.value for row in found if row.rate == MARKED)
    title = f"{args.log.name}: {len(history.norms)} norms"
    if history.nonfinite:
        title += f"; {history.nonfinite} not finite, left out"
    save_log_picture(args.output, title, history, found, chosen)
    if args.json:
        clipped = sum(norm > chosen for norm in history.norms)
        document = {
            "log": str(args.log),
            "picture": str(args.output),
            "column": history.column,
            "norms": len(history.norms),
            "nonfinite": history.nonfinite,
            "clip_norm": chosen,
            "clipped": clipped,
        }
        print_json(document)
        return
    for line in describe(history):
        print(line)
    print(f"Picture: {args.output}")


COMMAND = Command(
    name="plot",
    summary="Plot the gradient norms of a training log, and what thresholds clip of them.",
    configure=configure,
    run=run,
)
