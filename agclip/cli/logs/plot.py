"""`agclip plot`: the gradient norms of a training log, and what a threshold clips of them."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from agclip.cli.command import USAGE, Command, CommandError
from agclip.cli.command.arguments import bound
from agclip.cli.command.documents import print_json
from agclip.cli.command.output import require_writable
from agclip.cli.demo.picture import require_matplotlib
from agclip.cli.logs.named import add_log, describe, document_of, history_of, name_of
from agclip.cli.logs.picture import save_log_picture
from agclip.cli.logs.thresholds import START, thresholds

SUFFIXES = (".png", ".svg", ".pdf")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip plot`."""
    add_log(parser)
    add = parser.add_argument
    add(
        "-o",
        "--output",
        type=picture,
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


def picture(text: str) -> Path:
    """Read the path of a picture."""
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        msg = f"must end in .png, .svg or .pdf; got {text!r}"
        raise ArgumentTypeError(msg)
    return path


def run(args: Namespace) -> None:
    """Draw the picture.

    Args:
        args: The arguments that `configure` adds.

    Raises:
        CommandError: The log cannot be read, matplotlib is missing, or the picture cannot be
            written or is there already.
    """
    if args.output.exists() and not args.output.is_dir() and not args.force:
        msg = (
            f"`--output` must be a new file; got {str(args.output)!r}. Name another, or add "
            f"--force."
        )
        raise CommandError(msg, USAGE)
    history = history_of(args)
    require_matplotlib()
    require_writable(args.output, f"FILE{args.output.suffix}")
    norms = history.norms
    found = thresholds(norms)
    chosen = args.clip_norm
    if chosen is None:
        chosen = next((row.value for row in found if row.rate == START), None)
    title = f"{name_of(args.log)}: {len(norms)} norm{'s' * (len(norms) > 1)}"
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
