"""The demo's result: as a table and a few sentences, or as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from agclip.cli.command.tables import print_table
from agclip.cli.demo.text import Corpus
from agclip.cli.demo.train import BATCH, EXPLOSION, HIDDEN, LEARNING_RATE, WINDOW, Run


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo found.

    Attributes:
        backend: Name of the backend both runs were computed with.
        seed: The seed of both runs.
        corpus: The text of both runs.
        unclipped: The run without clipping.
        clipped: The run with clipping.
        seconds: Time the two runs took.
        picture: Where the picture goes.
        config: The file of the clipper of the run with clipping; None for the global norm.
    """

    backend: str
    seed: int
    corpus: Corpus
    unclipped: Run
    clipped: Run
    seconds: float
    picture: Path
    config: Path | None = None


def label(clip_norm: float | None) -> str:
    """Name a run by the one thing that differs."""
    if clip_norm is None:
        return "configured clipper"
    return "no clipping" if math.isinf(clip_norm) else f"clip_norm={clip_norm:g}"


def print_result(result: Result) -> None:
    """Print the table and what it means to standard output."""
    runs = (result.unclipped, result.clipped)
    one, other = map(_measures, runs)
    header = ["", *(label(run.clip_norm) for run in runs)]
    print_table(header, [(name, cell, other[name]) for name, cell in one.items()])
    for line in sentences(result):
        print(line)


def sentences(result: Result) -> list[str]:
    """Say what the table shows."""
    entropy = result.corpus.unigram_entropy()
    return [
        "Loss in nats a character; the final loss is the mean of the last tenth of the steps.",
        f"Unigram entropy of the text: {entropy:.2f} nats, the least loss without context.",
        *(
            f"{label(run.clip_norm)}: {_verdict(run, entropy)}."
            for run in (result.unclipped, result.clipped)
        ),
        f"Backend {result.backend}, {result.seconds:.1f} s.",
    ]


def document_of(result: Result) -> dict[str, object]:
    """Describe the result in the types of JSON."""
    return {
        "backend": result.backend,
        "seed": result.seed,
        "seconds": round(result.seconds, 3),
        "picture": str(result.picture),
        "learning_rate": LEARNING_RATE,
        "hidden": HIDDEN,
        "window": WINDOW,
        "batch": BATCH,
        "characters": len(result.corpus.codes),
        "alphabet": len(result.corpus.alphabet),
        "config": None if result.config is None else str(result.config),
        "unigram_entropy": result.corpus.unigram_entropy(),
        "unclipped": _run_document(result.unclipped),
        "clipped": _run_document(result.clipped),
    }


def _run_document(run: Run) -> dict[str, object]:
    """Describe one run in the types of JSON."""
    return {
        "clip_norm": run.clip_norm,
        "steps": run.steps,
        "clipped_steps": run.clipped_steps,
        "exploded_at": run.exploded_at,
        "final_loss": run.final_loss,
        "loss": run.losses,
        "norm_before": run.norms_before,
        "norm_after": run.norms_after,
    }


def _verdict(run: Run, entropy: float) -> str:
    """Say how a run went, from its numbers alone."""
    if run.exploded_at is not None:
        past = run.losses[run.exploded_at - 1] > run.explosion_loss
        cause = f"the loss passed {EXPLOSION:g} times that of a uniform guess; " if past else ""
        finite = math.isfinite(run.final_loss) and math.isfinite(run.norms_before[-1])
        end = (
            f"it ends at {run.final_loss:.1f} nats"
            if finite
            else f"the gradient is no longer finite at step {run.steps}, and the run ends"
        )
        return f"exploded at step {run.exploded_at}: {cause}{end}"
    if run.final_loss < entropy:
        return f"learnt, the final loss is {entropy - run.final_loss:.2f} nats below that"
    return (
        f"no explosion, but the final loss is {run.final_loss - entropy:.2f} nats above that; "
        "more steps or another threshold may help"
    )


def _measures(run: Run) -> dict[str, str]:
    """Write the measures of one run, by what they are called."""
    return {
        "steps": str(run.steps),
        "loss, first": f"{run.losses[0]:.2f}",
        "loss, largest": f"{max(run.losses):.2f}",
        "loss, final": f"{run.final_loss:.2f}",
        "norm before clipping, median": f"{_median(run.norms_before):.3g}",
        "norm before clipping, largest": f"{max(run.norms_before):.3g}",
        "norm after clipping, median": f"{_median(run.norms_after):.3g}",
        "norm after clipping, largest": f"{max(run.norms_after):.3g}",
        "clipped steps": f"{run.clipped_steps} of {run.steps}",
        "exploded": "never" if run.exploded_at is None else f"step {run.exploded_at}",
    }


def _median(values: Sequence[float]) -> float:
    """Return the median of the finite values: NaN has no place in an order."""
    return median([value for value in values if math.isfinite(value)] or [math.nan])
