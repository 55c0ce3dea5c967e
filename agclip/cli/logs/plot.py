"""`agclip plot`: the gradient norms of a training log, and what a threshold clips of them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from agclip.cli.command import Command
from agclip.cli.command.arguments import bound, counted
from agclip.cli.command.documents import print_json
from agclip.cli.command.output import require_new, require_writable
from agclip.cli.command.pictures import picture, require_matplotlib
from agclip.cli.logs.named import add_log, describe, document_of, history_of, name_of
from agclip.cli.logs.picture import save_log_picture
from agclip.cli.logs.thresholds import START, thresholds


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip plot`."""
    add_log(parser)
    add = parser.add_argument
    add(
        "-o",
        "--output",
        type=picture(".png", ".svg", ".pdf"),
        required=True,
        metavar="FILE",
        help="where to write the picture: .png, .svg or .pdf",
    )
    add(
        "--clip-norm",
        type=bound,
        metavar="C",
        help=f"mark the steps above this threshold (that of {START} %% if left out)",
    )
    add("--force", action="store_true", help="replace FILE if it is there")


def run(args: Namespace) -> None:
    """Draw the picture."""
    if not args.output.is_dir():  # of which `require_writable` says what is wrong
        require_new(args.output, force=args.force)
    history = history_of(args)
    require_matplotlib()
    require_writable(args.output, f"FILE{args.output.suffix}")
    norms = history.norms
    found = thresholds(norms)
    chosen = args.clip_norm
    if chosen is None:
        chosen = next((row.value for row in found if row.rate == START), None)
    title = f"{name_of(args.log)}: {counted(len(norms), 'norm', 'norms')}"
    if history.nonfinite:
        title += f"; {history.nonfinite} not finite"
    save_log_picture(args.output, title, history, found, chosen)
    if args.json:
        clipped = None if chosen is None else sum(norm > chosen for norm in norms)
        picked = {"picture": str(args.output), "clip_norm": chosen, "clipped": clipped}
        print_json({**document_of(args, history), **picked})
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
