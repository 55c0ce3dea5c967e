"""The ratios as a picture: a panel for each contest, a group of bars for each workload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from bench.contests import ROOF, Contest
from bench.pairs import Ratio
from bench.report import Result, by_contest

# Okabe and Ito's colours, told apart by every kind of colour vision; a hatch tells peers from ours.
_COLOURS = {"torch": "#D55E00", "numpy": "#0072B2", "jax": "#009E73", "jax-jit": "#CC79A7"}
_LABELS = {"torch": "PyTorch", "numpy": "NumPy", "jax": "JAX, eager", "jax-jit": "JAX, in jit"}
_INK = "#333333"
_WIDTH = 0.85
"""The part of the space between two workloads that the bars of one fill."""
_BARS = 30
"""A panel with more bars has a row to itself."""


def save(results: Sequence[Result], path: Path) -> None:
    """Draw the contests that are no matter of the number of leaves, and write a PNG."""
    panels = [(contest, found) for contest, found in by_contest(results) if not contest.scaling]
    if not panels:
        return
    places = _places([len(_names(contest)) * len(found) for contest, found in panels])
    rows = places[-1][0] + 1
    figure = Figure(figsize=(13, 1 + 2.9 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, 2)
    for (row, columns), (contest, members) in zip(places, panels, strict=True):
        _panel(figure.add_subplot(grid[row, columns]), contest, members)
    figure.legend(handles=_legend(), loc="outside upper center", ncols=7, frameon=False)
    figure.savefig(path, format="png", dpi=90)


def _places(bars: Sequence[int]) -> list[tuple[int, slice]]:
    """Return the row and columns of each panel: two in a row, unless one needs the whole width."""
    places: list[tuple[int, slice]] = []
    row, left = 0, True
    for count in bars:
        wide = count > _BARS
        if wide and not left:
            row, left = row + 1, True
        places.append((row, slice(0, 2) if wide else slice(0, 1) if left else slice(1, 2)))
        row, left = (row, False) if left and not wide else (row + 1, True)
    return places


def _names(contest: Contest) -> list[str]:
    return [c.name for c in contest.contenders if c.name not in (contest.reference, ROOF)]


def _panel(axes: Axes, contest: Contest, members: Sequence[Result]) -> None:
    names = _names(contest)
    width = _WIDTH / len(names)
    for place, member in enumerate(members):
        ratios = member.ratios()
        left = place - _WIDTH / 2
        for i, name in enumerate(names):
            _bar(axes, left + (i + 0.5) * width, 0.9 * width, name, ratios[name])
        axes.hlines(ratios[ROOF].median, left, left + _WIDTH, colors=_INK, linewidth=2)
    axes.set_yscale("log")
    axes.margins(x=0.01, y=0.12)
    axes.axhline(1, color=_INK, linewidth=0.8)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter("")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xticks(range(len(members)), [m.workload.title for m in members], fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(contest.title, fontsize=10, loc="left")
    axes.set_ylabel(f"time ÷ {contest.reference}", fontsize=8)


def _bar(axes: Axes, x: float, width: float, name: str, value: Ratio) -> None:
    """Draw a bar that stands on 1, the reference: up is slower, down is faster."""
    axes.bar(x, value.median - 1, width, bottom=1, **_style(name))
    axes.vlines(x, value.low, value.high, colors=_INK, linewidth=0.8)
    above = value.median >= 1
    axes.annotate(
        f"{value.median:.2g}" if value.median < 10 else f"{value.median:.0f}",
        (x, value.high if above else value.low),
        (0, 2 if above else -2),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        fontsize=7,
        color=_INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.3},
    )


def _style(name: str) -> dict[str, Any]:
    colour = _COLOURS[_library(name)]
    if name.startswith("agclip"):
        return {"color": colour}
    return {"facecolor": "white", "edgecolor": colour, "hatch": "////", "linewidth": 0.8}


def _library(name: str) -> str:
    if name.endswith("-jit"):
        return "jax-jit"
    return next((library for library in ("torch", "numpy") if library in name), "jax")


def _legend() -> list[Patch | Line2D]:
    colours: list[Patch | Line2D] = [
        Patch(color=colour, label=_LABELS[library]) for library, colour in _COLOURS.items()
    ]
    return [
        *colours,
        Patch(color=_INK, label="agclip"),
        Patch(facecolor="white", edgecolor=_INK, hatch="////", label="the library's own"),
        Line2D([], [], color=_INK, linewidth=2, label="roof: the memory that must move"),
    ]
