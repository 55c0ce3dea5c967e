"""The picture of the two runs: loss and gradient norm, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agclip.cli.command.output import replacing
from agclip.cli.demo.report import Result, label
from agclip.cli.demo.train import LEARNING_RATE, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by every kind of colour vision.
UNCLIPPED = "#D55E00"
CLIPPED = "#0072B2"
AFTER = "#56B4E9"
REFERENCE = "#4D4D4D"


def save_picture(result: Result) -> None:
    """Draw the picture and put it in place whole, or not at all.

    Args:
        result: What to draw and where to put it.

    Raises:
        CommandError: The file could not be written.
    """
    figure = _draw(result)
    with replacing(result.picture, "picture", "FILE.png") as temporary:
        figure.savefig(temporary, format="png")


def _draw(result: Result) -> Figure:
    """Draw two panels above each other, one step under the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        "A character-level recurrent network with and without gradient clipping\n"
        f"same start, same text, same learning rate {LEARNING_RATE:g}; "
        f"backend {result.backend}, seed {result.seed}"
    )
    upper, lower = figure.subplots(2, 1, sharex=True)
    _loss_panel(upper, result)
    _norm_panel(lower, result)
    lower.set_xlabel("training step")
    for axes in (upper, lower):
        axes.grid(color="#E0E0E0", linewidth=0.6)
        axes.legend(loc="center right")
    return figure


def _loss_panel(axes: Axes, result: Result) -> None:
    """Draw the loss of both runs and the unigram entropy."""
    from matplotlib.ticker import LogLocator, NullFormatter

    entropy = result.corpus.unigram_entropy()
    for run, colour in ((result.unclipped, UNCLIPPED), (result.clipped, CLIPPED)):
        _curve(axes, run.losses, label(run.clip_norm), color=colour)
        _mark_explosion(axes, run, run.losses, colour)
    axes.axhline(
        entropy,
        color=REFERENCE,
        linestyle="--",
        label=f"unigram entropy of the text, {entropy:.2f} nats",
    )
    axes.set_title("Loss", loc="left")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("loss (nats a character)")


def _norm_panel(axes: Axes, result: Result) -> None:
    """Draw the norms of both runs and the threshold."""
    unclipped, clipped = result.unclipped, result.clipped
    _curve(axes, unclipped.norms_before, label(unclipped.clip_norm), color=UNCLIPPED)
    _mark_explosion(axes, unclipped, unclipped.norms_before, UNCLIPPED)
    name = label(clipped.clip_norm)
    _curve(axes, clipped.norms_before, f"{name}, before clipping", color=CLIPPED)
    _mark_explosion(axes, clipped, clipped.norms_before, CLIPPED)
    # Wide and beneath, or the threshold would hide what is bounded by it.
    style = {"color": AFTER, "linewidth": 5, "zorder": 1.5}
    _curve(axes, clipped.norms_after, f"{name}, after clipping", **style)
    if clipped.clip_norm is not None:
        bound = clipped.clip_norm
        axes.axhline(bound, color=REFERENCE, linestyle="--", label=f"threshold, {bound:g}")
    axes.set_title("Global norm of the gradient", loc="left")
    axes.set_yscale("log")
    axes.set_ylabel("norm (nats a character)")


def _curve(axes: Axes, values: Sequence[float], name: str, **style: Any) -> None:
    """Draw one number per step; what is not finite leaves a gap."""
    finite = [value if math.isfinite(value) else math.nan for value in values]
    axes.plot(range(1, len(values) + 1), finite, label=name, **{"linewidth": 1.3, **style})


def _mark_explosion(axes: Axes, run: Run, values: Sequence[float], colour: str) -> None:
    """Mark the step at which a run exploded, on its curve or at the curve's last finite point."""
    if run.exploded_at is None:
        return
    drawn = [i for i, value in enumerate(values[: run.exploded_at]) if math.isfinite(value)]
    if drawn:
        step, value = drawn[-1] + 1, values[drawn[-1]]
        name = f"exploded at step {run.exploded_at}"
        axes.plot(step, value, "X", color=colour, markeredgecolor="black", ms=10, label=name)
