"""The picture of a log: the norms step by step, and the share of steps a threshold clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agclip.cli._logs import History
from agclip.cli._output import replacing
from agclip.cli._thresholds import Threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by every kind of colour vision.
NORMS = "#0072B2"
CLIPPED = "#D55E00"
LINES = ("#4D4D4D", "#009E73", "#CC79A7", "#E69F00")


def save_log_picture(
    path: Path, title: str, history: History, found: Sequence[Threshold], bound: float
) -> None:
    """Draw the picture and put it in place.

    Args:
        path: Where to.
        title: What is shown.
        history: The norms.
        found: The thresholds to mark.
        bound: The threshold whose clipped steps are marked.

    Raises:
        CommandError: The file could not be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    upper, lower = figure.subplots(2, 1)
    _history_panel(upper, history, found, bound)
    _share_panel(lower, history.norms, found, bound)
    for axes in (upper, lower):
        axes.grid(color="#E0E0E0", linewidth=0.6)
    with replacing(path, "picture", "FILE.png") as temporary:
        figure.savefig(temporary, format="png")


def _history_panel(axes: Axes, history: History, found: Sequence[Threshold], bound: float) -> None:
    """Draw the norms, the thresholds and the steps that one of them clips."""
    steps, norms = history.steps, history.norms
    axes.plot(steps, norms, color=NORMS, linewidth=0.8, label="norm")
    over = [(step, norm) for step, norm in zip(steps, norms, strict=True) if norm > bound]
    if over:
        name = f"above {bound:.4g}: {len(over)} of {len(norms)} steps"
        x, y = zip(*over, strict=True)
        axes.plot(x, y, "o", color=CLIPPED, markersize=3.5, linestyle="none", label=name)
    for row, colour in zip(found, LINES, strict=True):
        name = f"{row.rate} % clipped: {row.value:.4g}"
        axes.axhline(row.value, color=colour, linestyle="--", linewidth=1.2, label=name)
    if max(norms) > 0:
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title("Gradient norm", loc="left")
    axes.set_xlabel("step")
    axes.set_ylabel(history.column)
    # Beside the panel, where it can hide no norm.
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize="small")


def _share_panel(
    axes: Axes, norms: Sequence[float], found: Sequence[Threshold], bound: float
) -> None:
    """Draw the share of the steps above every threshold."""
    ordered = sorted(norms)
    size = len(ordered)
    shares = [100 * (size - place) / size for place in range(1, size + 1)]
    axes.step(ordered, shares, where="post", color=NORMS, linewidth=1.3, label="steps above")
    for row, colour in zip(found, LINES, strict=True):
        name = f"{row.value:.4g}: {100 * row.clipped / size:.3g} %"
        axes.plot(row.value, 100 * row.clipped / size, "o", color=colour, label=name)
        axes.hlines(
            100 * row.clipped / size, row.low, row.high, color=colour, linewidth=4, alpha=0.4
        )
    above = 100 * sum(norm > bound for norm in norms) / size
    if bound not in [row.value for row in found]:
        name = f"{bound:.4g}: {above:.3g} %"
        axes.plot(bound, above, "D", color=CLIPPED, markersize=6, label=name)
    if ordered[-1] > 0:
        axes.set_xscale("log", nonpositive="mask")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(-2, 102)
    axes.set_title("Share of the steps that a threshold clips", loc="left")
    axes.set_xlabel("threshold (bars: 95 % interval)")
    axes.set_ylabel("steps clipped (%)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize="small")
