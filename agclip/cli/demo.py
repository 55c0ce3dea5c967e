"""`agclip demo`: a recurrent network learns text, with and without clipping."""

from __future__ import annotations

import math
import os
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

import agclip
from agclip.cli._command import USAGE, Command, CommandError
from agclip.cli._plot import require_matplotlib, save_picture
from agclip.cli._progress import progress
from agclip.cli._report import Result, label, print_result, to_json
from agclip.cli._text import python_help
from agclip.cli._train import train


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip demo`."""
    add = parser.add_argument
    add("--backend", metavar="NAME", help="one of agclip.backends(); the default one if left out")
    add("--steps", type=_steps, default=300, metavar="N", help="steps per run (%(default)s)")
    add(
        "--clip-norm",
        type=_clip_norm,
        default=0.5,
        metavar="C",
        help="bound on the global norm of the gradient, for the clipped run (%(default)s)",
    )
    add("--seed", type=int, default=0, metavar="S", help="of weights and batches (%(default)s)")
    add(
        "-o",
        "--output",
        type=_png,
        default="agclip-demo.png",
        metavar="PNG",
        help="where to write the picture (%(default)s)",
    )
    add("--json", action="store_true", help="print JSON instead of a table; no progress")
    add("--quiet", action="store_true", help="show no progress")


def run(args: Namespace) -> None:
    """Train twice, then print the numbers and write the picture.

    Args:
        args: The arguments that `configure` adds.

    Raises:
        CommandError: The backend, matplotlib, the text or the picture's place cannot be used. All
            of them are tried before the training starts.
    """
    # The arrays are too small to be worth sharing, and threads that wait for each other on a busy
    # machine take many times as long. It must be said before the backend loads its library.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    backend = _backend(args.backend)
    require_matplotlib()
    _require_writable(args.output)
    result = _train_both(backend, args)
    # The numbers come first: a full disk shall not cost the user the training.
    if args.json:
        print(to_json(result))
    else:
        print_result(result)
    save_picture(result)
    if not args.json:
        print(f"Picture: {args.output}")


def _train_both(backend: agclip.Backend, args: Namespace) -> Result:
    """Train without and with clipping."""
    corpus = python_help()
    started = time.perf_counter()
    runs = []
    for clip_norm in (math.inf, args.clip_norm):
        with progress(label(clip_norm), args.steps, quiet=args.quiet or args.json) as report:
            run = train(
                backend.xp,
                corpus,
                steps=args.steps,
                clip_norm=clip_norm,
                seed=args.seed,
                report=report,
            )
        runs.append(run)
    return Result(
        backend=backend.name,
        seed=args.seed,
        corpus=corpus,
        unclipped=runs[0],
        clipped=runs[1],
        seconds=time.perf_counter() - started,
        picture=args.output,
    )


def _steps(text: str) -> int:
    """Read a positive whole number."""
    steps = int(text) if text.isdecimal() else 0
    if steps < 1:
        msg = f"must be a whole number from 1; got {text!r}"
        raise ArgumentTypeError(msg)
    return steps


def _clip_norm(text: str) -> float:
    """Read a positive finite number."""
    try:
        bound = float(text)
    except ValueError:
        bound = math.nan
    if not 0 < bound < math.inf:
        msg = f"must be a finite number above 0; got {text!r}"
        raise ArgumentTypeError(msg)
    return bound


def _png(text: str) -> Path:
    """Read the path of a PNG file."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        msg = f"must end in .png; got {text!r}"
        raise ArgumentTypeError(msg)
    return path


def _backend(name: str | None) -> agclip.Backend:
    """Look the backend up; the core's message says what is wrong with it."""
    try:
        return agclip.get_backend(name)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    except (ImportError, RuntimeError) as error:
        raise CommandError(str(error)) from error


def _require_writable(picture: Path) -> None:
    """Check that the picture can be put in its place, by writing a file beside it."""
    try:
        if picture.is_dir():
            msg = "it is a folder"
            raise IsADirectoryError(msg)
        with tempfile.TemporaryFile(dir=picture.parent):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        msg = f"`--output` must be a file that can be written; got {str(picture)!r}: {reason}. "
        raise CommandError(msg + "Name another with --output FILE.png.") from error


COMMAND = Command(
    name="demo",
    summary="Train a small recurrent network on text with and without clipping, and plot both.",
    configure=configure,
    run=run,
)
