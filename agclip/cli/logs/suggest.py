"""`agclip suggest`: thresholds for the gradient norms of a training log."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from agclip.cli.command import USAGE, Command, CommandError
from agclip.cli.command.documents import print_json
from agclip.cli.command.tables import print_table
from agclip.cli.logs.named import add_log, describe, document_of, history_of
from agclip.cli.logs.readers import History
from agclip.cli.logs.replay import LEFT_OUT, Replay, replays
from agclip.cli.logs.thresholds import (
    CONFIDENCE,
    LONG,
    RESAMPLES,
    SEED,
    START,
    Threshold,
    clipped_before,
    thresholds,
)


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip suggest`."""
    add_log(parser)


def run(args: Namespace) -> None:
    """Print thresholds, and what the rules with a memory would have done."""
    history = history_of(args)
    found = thresholds(history.norms)
    if not found:
        msg = (
            f"`LOG` must be a log with norms above 0; got {str(args.log)!r}: all "
            f"{len(history.norms)} in {history.column!r} are 0. A threshold of 0 would zero every "
            f"gradient."
        )
        raise CommandError(msg, USAGE)
    replayed = replays(history.norms, quiet=args.json)
    if args.json:
        print_json(_document(args, history, found, replayed))
        return
    for line in describe(history):
        print(line)
    print()
    _print_thresholds(found, _above_zero(history))
    _print_replays(replayed, len(history.norms))
    for line in _advice(history, found):
        print(line)


def _print_thresholds(found: Sequence[Threshold], size: int) -> None:
    header = ("clip rate", "clip_norm", f"{100 * CONFIDENCE:g} % interval", "steps clipped")
    rows = [
        (
            f"{row.rate} %",
            row.shown,
            f"{row.low:.4g} to {row.high:.4g}",
            f"{row.clipped} of {size}",
        )
        for row in found
    ]
    print_table(header, rows)


def _print_replays(replayed: Sequence[Replay], size: int) -> None:
    rows = [
        (
            replay.rule,
            f"{100 * replay.clipped / replay.steps:.1f} %",
            f"{replay.clipped} of {replay.steps}",
            f"{replay.threshold:.4g}",
        )
        for replay in replayed
    ]
    header = ("rule", "clips", "steps clipped", "last threshold")
    print_table(header, rows)
    steps = replayed[0].steps
    if steps < size:
        print(f"The rules were replayed on the last {steps} norms.")
    for rules, reason in LEFT_OUT.items():
        print(f"Left out: {rules}: {reason}.")


def _above_zero(history: History) -> int:
    return sum(norm > 0 for norm in history.norms)


def _method(size: int) -> str:
    if size > LONG:
        return f"the limit of the circular block bootstrap, as there are more than {LONG} norms"
    return f"circular block bootstrap, {RESAMPLES} resamples, seed {SEED}"


def _advice(history: History, found: Sequence[Threshold]) -> list[str]:
    """Say what the numbers are worth."""
    size = _above_zero(history)
    lines = [
        "A heuristic: it counts what a threshold would have clipped in this run.",
        "What that does to the loss only a run with the threshold can show.",
        "The norms must be those before clipping, of the same model, batch and loss scale.",
        f"Interval: {_method(size)}.",
    ]
    idle = [f"{row.rate} %" for row in found if size * row.rate < 100]
    if idle:
        *most, last = idle
        rows = f"rows of {', '.join(most)} and {last} clip" if most else f"row of {last} clips"
        lines.append(f"Fewer than {100 // found[0].rate} norms: the {rows} nothing here.")
    suggested = _suggested(history, found)
    if suggested is not None:
        lines.append(f"To begin with: agclip.clip_by_global_norm(grads, {suggested.shown})")
    elif clipped_before(history.norms):
        lines.append("No threshold follows: log the norms before clipping, and come back.")
    else:
        least = 100 // START
        lines.append(f"No threshold follows from so few: log {least} norms or more.")
    return lines


def _suggested(history: History, found: Sequence[Threshold]) -> Threshold | None:
    """Return the threshold to begin with; None if there are too few norms, or clipped ones."""
    if _above_zero(history) * START < 100 or clipped_before(history.norms):
        return None
    return next(row for row in found if row.rate == START)


def _document(
    args: Namespace,
    history: History,
    found: Sequence[Threshold],
    replayed: Sequence[Replay],
) -> dict[str, object]:
    suggested = _suggested(history, found)
    long = _above_zero(history) > LONG
    return {
        **document_of(args, history),
        "thresholds": [row._asdict() for row in found],
        "suggested": suggested and suggested.rounded,
        "interval": {
            "method": "circular block bootstrap" + ", its limit" * long,
            "confidence": CONFIDENCE,
            "resamples": None if long else RESAMPLES,
            "seed": None if long else SEED,
        },
        "rules": [replay._asdict() for replay in replayed],
        "left_out": LEFT_OUT,
    }


COMMAND = Command(
    name="suggest",
    summary="Suggest thresholds from the gradient norms of a training log.",
    configure=configure,
    run=run,
)
