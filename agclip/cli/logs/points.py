"""The points of a picture: as many as can be seen, and gaps where a norm is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agclip.cli.logs.readers import History

PLOTTED = 20_000
"""Points up to which all are drawn; a picture is 1500 pixels wide."""
BINS = 4000
"""Parts of a longer curve; of each the lowest and the highest point are drawn."""

Points = tuple[list[float], list[float]]
"""The coordinates along both axes."""


def series(history: History) -> Points:
    """Return the norms by step, with NaN where one is missing or 0: the line breaks there."""
    x, y = [], []
    start = 0
    for place, step in (*history.gaps, (len(history.norms), math.nan)):
        x += [*history.steps[start:place], step]
        y += [*(norm or math.nan for norm in history.norms[start:place]), math.nan]
        start = place
    del x[-1], y[-1]
    return _envelope(x, y)


def _envelope(x: list[float], y: list[float]) -> Points:
    """Return the lowest and the highest point of each part of a long curve, and its gaps."""
    size = len(x)
    if size <= PLOTTED:
        return x, y
    width = math.ceil(size / BINS)
    kept: list[int] = []
    for start in range(0, size, width):
        part = range(start, min(start + width, size))
        whole = [place for place in part if not math.isnan(y[place])]
        ends = {min(whole, key=y.__getitem__), max(whole, key=y.__getitem__)} if whole else set()
        if len(whole) < len(part):
            ends.add(next(place for place in part if math.isnan(y[place])))
        kept += sorted(ends)
    return [x[place] for place in kept], [y[place] for place in kept]


def isolated(x: Sequence[float], y: Sequence[float]) -> Points:
    """Return the points that no line reaches, as both neighbours are missing."""
    padded = [math.nan, *y, math.nan]
    alone = [
        place
        for place, value in enumerate(y)
        if not math.isnan(value) and math.isnan(padded[place]) and math.isnan(padded[place + 2])
    ]
    return [x[place] for place in alone], [y[place] for place in alone]


def marks(points: Sequence[tuple[float, float]]) -> Points:
    """Return points to mark; of very many, the highest in each part."""
    if len(points) > PLOTTED:
        width = math.ceil(len(points) / BINS)
        points = [
            max(points[start : start + width], key=lambda point: point[1])
            for start in range(0, len(points), width)
        ]
    return [x for x, _ in points], [y for _, y in points]


def stairs(ordered: Sequence[float]) -> Points:
    """Return the share of norms above each norm, in percent; of very many, a part of them.

    Args:
        ordered: The norms, in ascending order; at least one.
    """
    size = len(ordered)
    places = list(range(size))
    if size > PLOTTED:
        tail = size - BINS  # where a share is told apart from the next
        places = [*range(0, tail, math.ceil(size / BINS)), *range(tail, size)]
    x = [ordered[0], *(ordered[place] for place in places)]
    return x, [100.0, *(100 * (size - place - 1) / size for place in places)]
