"""The picture of a log: the norms step by step, and the share of steps a threshold clips."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agclip.cli.command.arguments import counted
from agclip.cli.command.output import replacing
from agclip.cli.command.pictures import plain_text
from agclip.cli.logs.points import isolated, marks, series, stairs
from agclip.cli.logs.readers import History
from agclip.cli.logs.thresholds import Threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# Okabe and Ito's colours, told apart by every kind of colour vision.
NORMS = "#0072B2"
CLIPPED = "#D55E00"
LINES = ("#4D4D4D", "#009E73", "#CC79A7", "#E69F00")

_DECADE = 10.0
"""Ratio of the largest norm to the smallest from which an axis is logarithmic."""
_LARGE = 1e100
"""Beyond this, or below its reciprocal, an axis is logarithmic in any case."""
_MARGIN = 0.12
"""Room beside the norms, as a share of their range."""
_FEW = 50
"""Norms up to which each has a marker."""
_LABEL = 60
"""Characters of the longest label."""
_UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""What is left out, so that the same log gives the same file."""


def save_log_picture(
    path: Path, title: str, history: History, found: Sequence[Threshold], bound: float | None
) -> None:
    """Draw the picture and put it in place.

    Args:
        path: Where to; how it ends says the format.
        title: What is shown.
        history: The norms.
        found: The thresholds to mark.
        bound: The threshold whose clipped steps are marked; None for none.

    Raises:
        CommandError: The file could not be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_short(title), parse_math=False)
    upper, lower = figure.subplots(2, 1)
    groups = _by_value(found)
    _history_panel(upper, history, groups, bound)
    _share_panel(lower, [norm for norm in history.norms if norm > 0], groups, bound)
    for axes in (upper, lower):
        axes.grid(color="#E0E0E0", linewidth=0.6)
        if axes.get_legend_handles_labels()[0]:  # beside the panel, where it can hide no norm
            axes.legend(
                loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize="small"
            )
    kind = path.suffix.lower().removeprefix(".")
    with (
        mpl.rc_context({"svg.hashsalt": "agclip"}),
        replacing(path, "picture", f"FILE{path.suffix}") as temporary,
    ):
        figure.savefig(temporary, format=kind, metadata=_UNDATED.get(kind))


def _by_value(found: Sequence[Threshold]) -> list[tuple[str, Threshold]]:
    """Return each threshold once, with the rates it stands for."""
    groups: dict[float, list[Threshold]] = {}
    for row in found:
        groups.setdefault(row.value, []).append(row)
    return [(f"{', '.join(str(row.rate) for row in rows)} %", rows[0]) for rows in groups.values()]


def _history_panel(
    axes: Axes,
    history: History,
    groups: Sequence[tuple[str, Threshold]],
    bound: float | None,
) -> None:
    """Draw the norms, the thresholds and the steps that one of them clips."""
    steps, norms = history.steps, history.norms
    place = _scaled(axes.yaxis, axes.set_ylim, norms)
    x, y = series(history)
    y = [place(norm) for norm in y]
    axes.plot(x, y, color=NORMS, linewidth=0.8, label="norm")
    axes.plot(*(isolated(x, y) if len(x) > _FEW else (x, y)), ".", color=NORMS, markersize=5)
    if bound is not None:
        over = [(s, place(n)) for s, n in zip(steps, norms, strict=True) if n > bound]
        name = f"above {_shown(bound, groups)}: {len(over)} of {len(norms)} steps"
        style: dict[str, Any] = {
            "color": CLIPPED,
            "markersize": 3.5,
            "linestyle": "none",
            "label": name,
        }
        axes.plot(*marks(over), "o", **style)
    for (rates, row), colour in zip(groups, LINES, strict=False):
        name = f"{rates} clipped: {row.shown}" if row.clipped else f"none clipped: {row.shown}"
        style = {"color": colour, "linestyle": "--", "linewidth": 1.2, "label": name}
        axes.axhline(place(row.value), **style)
    _mark_steps(axes, [step for _, step in history.gaps], "x", 0.97, "NaN or infinite")
    pairs = zip(steps, norms, strict=True) if 0.0 in norms else ()
    zeros = [step for step, norm in pairs if norm == 0]
    _mark_steps(axes, zeros, "v", 0.03, "norm 0")
    axes.set_title("Gradient norm", loc="left")
    axes.set_xlabel(_short(history.counter or "norm, numbered"), parse_math=False)
    axes.set_ylabel(_short(history.column), parse_math=False)


def _mark_steps(axes: Axes, steps: Sequence[float], marker: str, height: float, what: str) -> None:
    """Mark steps that have no place on the axis of the norms, at the edge of the panel."""
    if steps:
        x, y = marks([(step, height) for step in steps])
        name = f"{what}: {counted(len(steps), 'step', 'steps')}"
        axes.plot(
            x,
            y,
            marker,
            color=CLIPPED,
            markersize=5,
            linestyle="none",
            label=name,
            transform=axes.get_xaxis_transform(),
        )


def _share_panel(
    axes: Axes,
    norms: Sequence[float],
    groups: Sequence[tuple[str, Threshold]],
    bound: float | None,
) -> None:
    """Draw the share of the steps above every threshold."""
    ordered = sorted(norms)
    size = len(ordered)
    axes.set_title("Share of the steps that a threshold clips", loc="left")
    axes.set_xlabel("threshold (bars: 95 % interval)")
    axes.set_ylabel("steps clipped (%)")
    axes.set_ylim(-4, 104)
    marked = [(row.value, row.clipped, row.shown, "o") for _, row in groups]
    if bound and bound not in [row.value for _, row in groups]:
        marked.append((bound, size - bisect_right(ordered, bound), f"{bound:.4g}", "D"))
    ends = [*ordered[bisect_right(ordered, 0.0) :][:1], *ordered[-1:]]
    place = _scaled(axes.xaxis, axes.set_xlim, [*ends, *(value for value, *_ in marked)])
    if not ordered:
        middle: dict[str, Any] = {"ha": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "all norms are 0: there is nothing to clip", **middle)
        return
    x, shares = stairs(ordered)
    style: dict[str, Any] = {
        "where": "post",
        "color": NORMS,
        "linewidth": 1.3,
        "label": "steps above",
    }
    axes.step([place(norm) for norm in x], shares, **style)
    colours = (*LINES[: len(groups)], CLIPPED)
    for (value, clipped, shown, marker), colour in zip(marked, colours, strict=False):
        share = 100 * clipped / size
        axes.plot(place(value), share, marker, color=colour, label=f"{shown}: {share:.3g} %")
    for (_, row), colour in zip(groups, LINES, strict=False):
        span = place(row.low), place(row.high)
        axes.hlines(100 * row.clipped / size, *span, color=colour, linewidth=4, alpha=0.4)


def _scaled(
    axis: Axis, set_limits: Callable[[float, float], Any], norms: Sequence[float]
) -> Callable[[float], float]:
    """Set the limits and ticks of an axis of norms; return where a norm lies on it.

    It shows logarithms where the norms span a decade. They are taken here: matplotlib's own
    logarithmic axis overflows near the largest numbers, and vanishes near the smallest.
    """
    from matplotlib.ticker import FixedLocator

    positive = [norm for norm in norms if norm > 0]
    if not positive:
        axis.set_ticks([])
        return float
    low, high = min(positive), max(positive)
    place: Callable[[float], float] = float
    if high / _DECADE >= low or high > _LARGE or low < 1 / _LARGE:
        place = math.log10
        ticks = _ticks(low, high)
        axis.set_major_locator(FixedLocator([place(tick) for tick in ticks]))
        axis.set_major_formatter(lambda position, _: f"{10**position:.4g}")
    low, high = place(low), place(high)
    margin = _MARGIN * (high - low) or _MARGIN * (abs(high) if place is float else 1.0)
    set_limits(low - margin, high + margin)
    return place


def _ticks(low: float, high: float) -> list[float]:
    """Return about eight numbers for a logarithmic axis: 1, 2 and 5, or powers of 10 alone."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((last - first) / 8))
    leading = (1, 2, 5) if last - first <= 4 else (1,)
    ticks = [
        tick
        for power in range(first, last + 1, every)
        for tick in (float(f"{digit}e{power}") for digit in leading)
        if low <= tick <= high
    ]
    return ticks if len(ticks) > 1 else [low, high]


def _shown(bound: float, groups: Sequence[tuple[str, Threshold]]) -> str:
    """Write a threshold as everywhere else."""
    return next((row.shown for _, row in groups if row.value == bound), f"{bound:.4g}")


def _short(text: str) -> str:
    text = plain_text(text)
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"
