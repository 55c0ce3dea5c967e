"""The results as pictures, one for each family of contests.

Ratios are bars that stand on the reference: a row of panels for each contest, a panel for each
workload. Contests along an axis are curves of the time of a call.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from bench.contests import ROOF, Contender, Contest
from bench.pairs import Ratio
from bench.report import Result, by_contest, families

# Okabe and Ito's colours, told apart by every kind of colour vision; a hatch tells peers from ours.
_COLOURS = {
    "torch": "#D55E00",
    "numpy": "#0072B2",
    "jax": "#009E73",
    "tensorflow": "#E69F00",
    "mlx": "#CC79A7",
}
_LABELS = {
    "torch": "PyTorch",
    "numpy": "NumPy",
    "jax": "JAX",
    "tensorflow": "TensorFlow",
    "mlx": "MLX",
}
_INK, _GRID = "#333333", "#DDDDDD"
_PANEL, _BAR, _HEAD = 2.3, 0.19, 0.85
"""Inches: the width of a panel, the height of a bar, and of what is above and below the bars."""
_SCALE = (0.01, 0.1, 1, 10, 100)


def save(results: Sequence[Result], folder: Path, prefix: str) -> dict[str, Path]:
    """Draw every family, and return the paths of the PNGs by family."""
    paths = {}
    for family, members in families(results).items():
        contests = list(by_contest(members))
        figure = _curves(contests) if contests[0][0].axis else _bars(contests)
        paths[family] = folder / f"{prefix}-{family}.png"
        figure.savefig(paths[family], format="png", dpi=90)
    return paths


def _bars(contests: Sequence[tuple[Contest, list[Result]]]) -> Figure:
    most = max(len(members) for _, members in contests)
    heights = [_HEAD + _BAR * len(_bars_of(contest)) for contest, _ in contests]
    figure = Figure(figsize=(1.8 + _PANEL * most, 0.5 + sum(heights)), layout="constrained")
    rows = figure.subfigures(len(contests), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, (contest, members) in zip(rows, contests, strict=True):
        _row(row, contest, members, most)
    handles = _legend({c.library for contest, _ in contests for c in _bars_of(contest)})
    figure.legend(handles=handles, loc="outside upper left", ncols=8, frameon=False, fontsize=8)
    return figure


def _bars_of(contest: Contest) -> list[Contender]:
    return [c for c in contest.contenders if c.name not in (contest.reference, ROOF)]


def _row(figure: SubFigure, contest: Contest, members: Sequence[Result], columns: int) -> None:
    title = f"{contest.title}: time ÷ {contest.reference}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    panels = figure.subplots(1, columns, sharex=True, sharey=True, squeeze=False)[0]
    for axes, member in zip(panels, members, strict=False):
        _panel(axes, contest, member)
    for axes in panels[len(members) :]:
        axes.set_axis_off()
    for label, contender in zip(panels[0].get_yticklabels(), _bars_of(contest), strict=True):
        label.set_fontweight("bold" if contender.ours else "normal")


def _panel(axes: Axes, contest: Contest, member: Result) -> None:
    ratios, bars = member.ratios(), _bars_of(contest)
    for place, contender in enumerate(bars):
        _bar(axes, place, contender, ratios[contender.name])
    if ROOF in ratios:
        axes.axvline(ratios[ROOF].median, color=_INK, linewidth=1.6, linestyle=(0, (3, 1)))
    axes.axvline(1, color=_INK, linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(x=0.22)
    axes.xaxis.set_major_locator(FixedLocator(_SCALE))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_yticks(range(len(bars)), [contender.name for contender in bars])
    axes.tick_params(which="both", labelsize=7, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(member.workload.title, fontsize=8)


def _bar(axes: Axes, place: int, contender: Contender, value: Ratio) -> None:
    """Draw a bar that stands on 1, the reference: to the right is slower, to the left faster."""
    axes.barh(place, value.median - 1, 0.78, left=1, **_style(contender))
    axes.hlines(place, value.low, value.high, colors=_INK, linewidth=0.8)
    slower = value.median >= 1
    axes.annotate(
        f"{value.median:.2g}" if value.median < 10 else f"{value.median:.0f}",
        (value.high if slower else value.low, place),
        (2 if slower else -2, 0),
        textcoords="offset points",
        ha="left" if slower else "right",
        va="center",
        fontsize=7,
        color=_INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.2},
    )


def _style(contender: Contender) -> dict[str, Any]:
    colour = _COLOURS[contender.library]
    if contender.ours:
        return {"color": colour}
    return {"facecolor": "white", "edgecolor": colour, "hatch": "/////", "linewidth": 0.8}


def _legend(libraries: set[str]) -> list[Patch | Line2D]:
    colours = [
        Patch(color=_COLOURS[name], label=label)
        for name, label in _LABELS.items()
        if name in libraries
    ]
    return [
        *colours,
        Patch(color=_INK, label="agclip"),
        Patch(facecolor="white", edgecolor=_INK, hatch="/////", label="others"),
        Line2D([], [], color=_INK, linewidth=1.6, linestyle=(0, (3, 1)), label="roof"),
    ]


def _curves(contests: Sequence[tuple[Contest, list[Result]]]) -> Figure:
    figure = Figure(figsize=(1.6 + 5 * len(contests), 4.5), layout="constrained")
    panels = figure.subplots(1, len(contests), squeeze=False)[0]
    for axes, (contest, members) in zip(panels, contests, strict=True):
        for contender in contest.contenders:
            _curve(axes, contest, contender, members)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(color=_GRID, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(contest.title, fontsize=9, loc="left")
        axes.set_xlabel(contest.axis)
        axes.set_ylabel("µs a call")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _curve(axes: Axes, contest: Contest, contender: Contender, members: Sequence[Result]) -> None:
    along = [
        m.workload.elements if contest.axis == "elements" else len(m.workload.shapes)
        for m in members
    ]
    times = [statistics.median(member.times[contender.name]) * 1e6 for member in members]
    if contender.name == ROOF:
        style: dict[str, Any] = {"color": _INK, "linestyle": (0, (3, 1))}
    else:
        line = "--" if contender.name.endswith("-plain") else "-" if contender.ours else ":"
        style = {"color": _COLOURS[contender.library], "linestyle": line, "marker": "."}
    axes.plot(along, times, label=contender.name, linewidth=1.6, **style)
