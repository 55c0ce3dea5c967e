"""`agclip suggest`: thresholds for the gradient norms of a training log."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from agclip.cli._command import Command
from agclip.cli._json import print_json
from agclip.cli._log_file import add_log, describe, history_of
from agclip.cli._logs import History
from agclip.cli._replay import LEFT_OUT, Replay, replays
from agclip.cli._tables import print_table
from agclip.cli._thresholds import CONFIDENCE, RESAMPLES, SEED, Threshold, thresholds

FEW = 100
"""Norms below which the log is too short for the lowest rate."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip suggest`."""
    add_log(parser)


def run(args: Namespace) -> None:
    """Print thresholds, and what the rules with a memory would have done.

    Args:
        args: The arguments that `configure` adds.

    Raises:
        CommandError: The log cannot be read.
    """
    history = history_of(args)
    found = thresholds(history.norms)
    replayed = replays(history.norms, quiet=args.json)
    if args.json:
        print_json(_document(args, history, found, replayed))
        return
    for line in describe(history):
        print(line)
    print()
    _print_thresholds(found, len(history.norms))
    _print_replays(replayed, len(history.norms))
    for line in _advice(history, found):
        print(line)


def _print_thresholds(found: Sequence[Threshold], size: int) -> None:
    header = ("clip rate", "clip_norm", f"{100 * CONFIDENCE:g} % interval", "steps clipped")
    rows = [
        (
            f"{row.rate} %",
            f"{row.value:.4g}",
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


def _advice(history: History, found: Sequence[Threshold]) -> list[str]:
    """Say what the numbers are worth."""
    lines = [
        "A heuristic: it counts what a threshold would have clipped in this run.",
        "What that does to the loss only a run with the threshold can show.",
        "The norms must be those before clipping, of the same model, batch and loss scale.",
        f"Interval: circular block bootstrap, {RESAMPLES} resamples, seed {SEED}.",
    ]
    if len(history.norms) < FEW:
        lines.append(f"Fewer than {FEW} norms: the row of {found[0].rate} % clips nothing here.")
    start = next(row for row in found if row.rate == 5)
    lines.append(f"To begin with: agclip.clip_by_global_norm(grads, {start.value:.4g})")
    return lines


def _document(
    args: Namespace,
    history: History,
    found: Sequence[Threshold],
    replayed: Sequence[Replay],
) -> dict[str, object]:
    return {
        "log": str(args.log),
        "column": history.column,
        "norms": len(history.norms),
        "nonfinite": history.nonfinite,
        "thresholds": [row._asdict() for row in found],
        "interval": {
            "method": "circular block bootstrap",
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "seed": SEED,
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
