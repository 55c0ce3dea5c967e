"""Draw the pictures of the documentation into docs/pictures: `python docs/draw.py [WORD ...]`.

Three kinds: each rule at work on one made-up history of gradients (rule-*.png), the table of wrong
norms that bench/who_is_wrong.py has written (wrong.png), and the speeds that `make bench` has
published (speed.png). A word draws only the pictures whose names contain it. The picture
training.png is that of `make demo`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import agclip

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "pictures"
# Okabe and Ito's colours, told apart by every kind of colour vision.
BEFORE, AFTER, BOUND, GOOD = "#D55E00", "#0072B2", "#333333", "#009E73"
GRID, PALE_BAD, PALE_GOOD, PALE = "#DDDDDD", "#F6CDB5", "#BFE3D8", "#FBECC8"

STEPS = 240
SPIKES = {60: 12.0, 61: 6.0, 118: 25.0, 175: 8.0, 205: 15.0}
"""By step: how much longer than usual the gradient of the layer `head` is."""


def history() -> Iterator[dict[str, np.ndarray]]:
    """Yield the gradients of a run: norms that fall and scatter, and spikes in one layer."""
    draw = np.random.default_rng(0)
    drift = 0.0
    for step in range(STEPS):
        usual = 0.5 + 2.5 * math.exp(-step / 40)
        drift = 0.8 * drift + 0.25 * draw.standard_normal()  # norms of neighbouring steps are alike
        grads = {}
        for name, shape, share in (("body", (16, 16), 0.9), ("head", (4, 16), 0.45)):
            grad = draw.standard_normal(shape)
            length = usual * share * math.exp(drift + 0.1 * draw.standard_normal())
            if name == "head":
                length *= SPIKES.get(step, 1.0)
            grads[name] = grad * (length / np.linalg.norm(grad))
        yield grads


def global_norm(grads: Any) -> float:
    """Return the norm of all leaves."""
    return float(agclip.global_norm(grads))


def leaf_norm(name: str) -> Callable[[Any], float]:
    """Return what measures the norm of a leaf."""
    return lambda grads: float(np.linalg.norm(grads[name]))


def rms(grads: Any) -> float:
    """Return the root mean square of the leaf `head`."""
    return float(np.sqrt(np.mean(grads["head"] ** 2)))


def average(grads: Any) -> float:
    """Return the norm of the leaf `head` divided by its size."""
    return float(np.linalg.norm(grads["head"]) / grads["head"].size)


def largest(grads: Any) -> float:
    """Return the largest magnitude in the leaf `head`."""
    return float(np.abs(grads["head"]).max())


def unit(grads: Any) -> float:
    """Return the largest norm of a unit of the leaf `head`."""
    return float(np.linalg.norm(grads["head"], axis=1).max())


@dataclass(frozen=True)
class Scene:
    """A rule, and what of the gradients shows what it does."""

    rule: Any
    label: str = "global norm"
    measure: Callable[[Any], float] = global_norm
    threshold: bool = True  # as the record has it
    bound: float | None = None  # of what is measured, where it is one number


HEAD = "norm of the layer `head`"
WEIGHT = 3.0
PARAMS = {
    name: np.full(shape, WEIGHT / 4) for name, shape in (("body", (16, 16)), ("head", (4, 16)))
}
SCENES = {
    "value": Scene(agclip.ClipByValue(-0.3, 0.3), "largest entry of `head`", largest, False, 0.3),
    "norm": Scene(agclip.ClipByNorm(1.0), HEAD, leaf_norm("head"), False, 1.0),
    "average_norm": Scene(
        agclip.ClipByAverageNorm(0.015), "norm ÷ size of `head`", average, False, 0.015
    ),
    "rms": Scene(agclip.ClipByRMS(0.15), "root mean square of `head`", rms, False, 0.15),
    "global_norm": Scene(agclip.ClipByGlobalNorm(1.5)),
    "adaptive": Scene(
        agclip.AdaptiveGradClip(0.2, unit_axes="out_in"),
        "largest norm of a unit of `head`",
        unit,
        False,
        0.2 * WEIGHT,
    ),
    "autoclip": Scene(agclip.AutoClip(percentile=90.0)),
    "zclip": Scene(agclip.ZClip(max_norm=None)),
    "adagc": Scene(agclip.AdaGC(warmup=20), HEAD, leaf_norm("head"), False),
    "spike": Scene(agclip.SpikeClip(threshold=50.0), "largest entry of `head`", largest, False),
    "quantile": Scene(agclip.QuantileClip(initial=1.5, quantile=0.9)),
    "chain": Scene(
        agclip.Chain((agclip.ClipByNorm(1.5), agclip.ClipByGlobalNorm(2.0))),
        threshold=False,
        bound=2.0,
    ),
    "per_group": Scene(
        agclip.PerGroup({"head": agclip.ClipByGlobalNorm(0.6), "*": agclip.ClipByGlobalNorm(4.0)}),
        HEAD,
        leaf_norm("head"),
        False,
        0.6,
    ),
    "scheduled": Scene(
        agclip.Scheduled(agclip.ClipByGlobalNorm, lambda step: 3.0 - 2.0 * (step / STEPS))
    ),
}


def run(scene: Scene) -> tuple[list[float], list[float], list[float]]:
    """Return what is measured before and after the clip, and the threshold, step by step."""
    clipper = agclip.Clipper(scene.rule)
    before, after, thresholds = [], [], []
    for grads in history():
        params = PARAMS if isinstance(scene.rule, agclip.AdaptiveGradClip) else None
        clipped, info = clipper(grads, params) if params else clipper(grads)
        before.append(scene.measure(grads))
        after.append(scene.measure(clipped))
        thresholds.append(float(info.threshold) if scene.threshold else scene.bound or math.nan)
    return before, after, thresholds


def draw_rule(scene: Scene) -> Figure:
    """Draw a rule at work."""
    before, after, thresholds = run(scene)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    steps = range(1, STEPS + 1)
    axes.plot(steps, before, color=BEFORE, linewidth=1.1, label="before the clip")
    axes.plot(steps, after, color=AFTER, linewidth=1.6, label="after it")
    shown = [t if 0 < t < math.inf else math.nan for t in thresholds]
    if not all(map(math.isnan, shown)):
        axes.plot(steps, shown, color=BOUND, linewidth=1.2, linestyle="--", label="threshold")
    _dress(axes)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel(scene.label.replace("`", ""))
    axes.set_title(as_written(scene.rule), loc="left", fontsize=9, family="monospace")
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return figure


def as_written(rule: Any) -> str:
    """Return the call that makes a rule, without what it leaves at its default."""
    if isinstance(rule, agclip.Scheduled):
        return "Scheduled(ClipByGlobalNorm, lambda step: 3 - 2 * step / 240)"
    if isinstance(rule, agclip.Chain):
        return f"Chain({', '.join(map(as_written, rule.rules))})"
    if isinstance(rule, agclip.PerGroup):
        groups = (f"{name!r}: {as_written(inner)}" for name, inner in dict(rule.groups).items())
        return f"PerGroup({{{', '.join(groups)}}})"
    fields = [(field, getattr(rule, field.name)) for field in dataclasses.fields(rule)]
    given = [f"{f.name}={value!r}" for f, value in fields if value != f.default]
    return f"{type(rule).__name__}({', '.join(given)})"


def _dress(axes: Axes) -> None:
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def wrong_rows() -> list[list[str]]:
    """Return the cells of the table of wrong norms, its head first."""
    lines = (DOCS / "_tables" / "who_is_wrong.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if "|" in line]
    rows[0] = ["", *(line for line in rows[0] if line)]
    return [rows[0], *rows[2:]]


def draw_wrong() -> Figure:
    """Draw the table of wrong norms: lost, off by many units, right."""
    head, *rows = wrong_rows()
    head, rows = head[:-1], [row[:-1] for row in rows]
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    axes = figure.subplots()
    for y, row in enumerate(rows):
        for x, cell in enumerate(row[1:]):
            lost = cell.startswith("**")
            error = math.inf if lost else float(cell.replace(",", ""))
            colour = (
                PALE_BAD if lost else PALE_GOOD if error <= 1 else PALE if error < 100 else PALE_BAD
            )
            axes.add_patch(_box(x, y, colour))
            text = f"lost: {cell.strip('*')}" if lost else cell
            weight = "bold" if colour == PALE_BAD else "normal"
            axes.text(x, y, text, ha="center", va="center", fontsize=8, weight=weight)
    axes.set_xlim(-0.5, len(head) - 1.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    names = [name.replace("agclip: ", "agclip\n") for name in head[1:]]
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    title = (
        "Error of the norm, in units in the last place; lost: not finite or zero, though it exists"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _box(x: float, y: float, colour: str) -> Any:
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (x - 0.44, y - 0.4),
        0.88,
        0.8,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=colour,
        edgecolor="none",
    )


def draw_speed() -> Figure:
    """Draw the published ratios of the clip in place to PyTorch's own."""
    document = json.loads((DOCS.parent / "bench/results/last.json").read_text(encoding="utf-8"))
    family = [c for c in document["contests"] if c["family"] == "global_norm"]
    contests = {contest["title"]: contest["ratios"] for contest in family}
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {
        "clip_by_global_norm_, norm beyond the bound": "the norm is above the bound: all is scaled",
        "clip_by_global_norm_, norm within the bound": "within the bound: only measured",
    }
    for axes, (title, heading) in zip(panels, titles.items(), strict=True):
        _speed_panel(axes, contests[title])
        axes.set_title(heading, loc="left", fontsize=9)
        axes.set_xlabel("time ÷ torch.nn.utils.clip_grad_norm_", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    return figure


SPEEDS = {
    "agclip-torch": ("agclip, PyTorch tensors", BEFORE),
    "agclip-numpy": ("agclip, NumPy arrays", AFTER),
    "roof": ("the memory alone: one sum, one product", "#B0B0B0"),
}


def workload(title: str) -> str:
    """Return the published name of a set of gradients in words."""
    words = {
        "20 × 64×64": "20 of 64×64",
        "1000 × 100": "1000 of 100",
        "one leaf, 30 M": "one of 30 M",
    }
    return words.get(title, title.replace("ragged", "32 of mixed size"))


def _speed_panel(axes: Axes, ratios: dict[str, dict[str, float]]) -> None:
    axes.axvline(1, color=BOUND, linewidth=1)
    for shift, (name, (label, colour)) in zip((-0.27, 0, 0.27), SPEEDS.items(), strict=True):
        values = [row[name] for row in ratios.values()]
        places = [y + shift for y in range(len(values))]
        axes.barh(places, values, 0.25, color=colour, label=label)
        for y, value in zip(places, values, strict=True):
            axes.text(value + 0.02, y, f"{value:.2f}", va="center", fontsize=7)
    _dress(axes)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.6)
    axes.set_yticks(range(len(ratios)), map(workload, ratios), fontsize=8)
    axes.set_ylim(len(ratios) - 0.5, -0.5)


def pictures() -> dict[str, Callable[[], Figure]]:
    """Return what draws each picture, by its name."""
    drawn: dict[str, Callable[[], Figure]] = {"wrong": draw_wrong, "speed": draw_speed}
    for name, scene in SCENES.items():
        drawn[f"rule-{name}"] = lambda scene=scene: draw_rule(scene)
    return drawn


def main(words: list[str], folder: Path = PICTURES) -> None:
    """Draw the pictures whose names contain one of the words; all without words."""
    folder.mkdir(exist_ok=True)
    for name, draw in pictures().items():
        if not words or any(word in name for word in words):
            draw().savefig(folder / f"{name}.png", dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main(sys.argv[1:])
