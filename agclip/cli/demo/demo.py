"""`agclip demo`: a recurrent network learns text, with and without clipping."""

from __future__ import annotations

import math
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import agclip
from agclip._typing import Array
from agclip.cli.command import Command
from agclip.cli.command.arguments import add_backend, backend_of, count, positive
from agclip.cli.command.documents import print_json
from agclip.cli.command.output import require_writable
from agclip.cli.command.pictures import picture, require_matplotlib
from agclip.cli.command.progress import Report, progress
from agclip.cli.demo.picture import save_picture
from agclip.cli.demo.report import Result, document_of, label, print_result
from agclip.cli.demo.rnn import Params
from agclip.cli.demo.text import python_help
from agclip.cli.demo.train import Clip, train
from agclip.cli.files.clipper import add_config, clipper_of

CLIP_NORM = 0.5


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip demo`."""
    add = parser.add_argument
    add_backend(parser)
    add("--steps", type=count, default=300, metavar="N", help="steps per run (%(default)s)")
    add(
        "--clip-norm",
        type=positive,
        metavar="C",
        help=f"bound on the global norm of the gradient, for the clipped run ({CLIP_NORM})",
    )
    add_config(parser, "the clipped run")
    add("--seed", type=int, default=0, metavar="S", help="of weights and batches (%(default)s)")
    add(
        "-o",
        "--output",
        type=picture(".png"),
        default="agclip-demo.png",
        metavar="PNG",
        help="where to write the picture (%(default)s)",
    )
    add("--quiet", action="store_true", help="show no progress")


def run(args: Namespace) -> None:
    """Train twice, then print the numbers and write the picture; all it needs is tried before."""
    # The arrays are too small to be worth sharing, and threads that wait for each other on a busy
    # machine take many times as long. It must be said before the backend loads its library.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    clipper = clipper_of(args, "clip_norm")
    backend = backend_of(args, args.backend)
    require_matplotlib()
    require_writable(args.output, "FILE.png")
    result = _train_both(backend, clipper, args)
    # The numbers come first: a full disk shall not cost the user the training.
    if args.json:
        print_json(document_of(result))
    else:
        print_result(result)
    save_picture(result)
    if not args.json:
        print(f"Picture: {args.output}")


def _train_both(backend: agclip.Backend, clipper: agclip.Clipper | None, args: Namespace) -> Result:
    """Train without and with clipping."""
    corpus = python_help()
    started = time.perf_counter()
    clip = None if clipper is None else _clip_with(clipper)
    clip_norm = (
        None if clip is not None else CLIP_NORM if args.clip_norm is None else args.clip_norm
    )
    runs = []
    for bound, rule in ((math.inf, None), (clip_norm, clip)):
        with progress(label(bound), args.steps, quiet=args.quiet or args.json) as report:
            run = train(
                backend.xp,
                corpus,
                steps=args.steps,
                clip_norm=bound,
                seed=args.seed,
                report=_reporting(report),
                clip=rule,
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
        config=args.config,
    )


def _clip_with(clipper: agclip.Clipper) -> Clip:
    """Have a clipper clip a step of the training."""

    def clip(grads: Params, params: Params) -> tuple[Params, Array]:
        # The norm is asked for here: a clipper that needs none may not tell it.
        norm: Array = agclip.global_norm(grads)
        clipped: Params = clipper(grads, params)[0]
        return clipped, norm

    return clip


def _reporting(report: Report) -> Callable[[int, float, float], None]:
    """Write the two numbers that tell how a run is doing."""
    return lambda step, loss, norm: report(step, f"loss {loss:.2f} nats, gradient norm {norm:.3g}")


COMMAND = Command(
    name="demo",
    summary="Train a small recurrent network on text with and without clipping, and plot both.",
    configure=configure,
    run=run,
)
