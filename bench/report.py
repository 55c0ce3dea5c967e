"""The ratios as text and as JSON. They travel between machines; seconds do not."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import peers
from bench.contests import Contest
from bench.pairs import Ratio, Times, ratio
from bench.workloads import Workload

UNCERTAIN = 0.15
"""The spread of a ratio beyond which it is marked."""
_LIBRARIES = (
    *("agclip", "jax", "keras", "mlx", "numba", "numpy", "optax", "smartclip"),
    *("tensorflow", "tensorflow-cpu", "torch"),
)
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of a contest on a workload: seconds, and bytes at the peak."""

    contest: Contest
    workload: Workload
    times: Times
    peaks: dict[str, int] = field(default_factory=dict)

    def ratios(self) -> dict[str, Ratio]:
        """Return all ratios that the contest asks for, by name of the row."""
        contest = self.contest
        rows = {c.name: ratio(self.times, c.name, contest.reference) for c in contest.contenders}
        for contender in contest.contenders:
            for other in contender.against:
                row = f"{contender.name} ÷ {other}"
                rows[row] = ratio(self.times, contender.name, other)
        return rows


def by_contest(results: Sequence[Result]) -> Iterator[tuple[Contest, list[Result]]]:
    """Yield each contest with its results, in the order they were measured."""
    for contest in dict.fromkeys(result.contest for result in results):
        yield contest, [result for result in results if result.contest is contest]


def families(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the results by family of their contests."""
    names = dict.fromkeys(result.contest.family for result in results)
    return {name: [r for r in results if r.contest.family == name] for name in names}


def lines(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of all tables, in Markdown."""
    yield from tables(results)
    yield from memory(results)
    yield ""
    yield from notes(results)


def tables(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of a table of ratios for each contest."""
    for contest, members in by_contest(results):
        columns = [member.ratios() for member in members]
        rows = [[name, *(short(column[name]) for column in columns)] for name in columns[0]]
        yield ""
        yield f"{contest.title}: time ÷ {contest.reference}"
        yield ""
        yield from table([["", *(member.workload.title for member in members)], *rows])
        if contest.axis == "leaves" and len(members) > 1:
            yield ""
            yield from _fits(members)


def memory(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of a table of memory, if any was counted."""
    counted = [result for result in results if result.peaks]
    if not counted:
        return
    names = dict.fromkeys(name for result in counted for name in result.peaks)
    rows = [
        [name, *(f"{r.peaks[name] / _MIB:.2f}" if name in r.peaks else "" for r in counted)]
        for name in names
    ]
    yield ""
    yield f"{counted[0].workload.title}: peak extra memory of a call in MiB, its result included"
    yield ""
    yield from table([["", *(result.contest.title for result in counted)], *rows])


def notes(results: Sequence[Result]) -> Iterator[str]:
    """Yield how sure the ratios are, what is missing, and what they depend on."""
    spreads = [
        value.spread
        for result in results
        for name, value in result.ratios().items()
        if name != result.contest.reference
    ]
    yield f"Half of the rounds lie within ±{statistics.median(spreads):.1%} of a ratio (the median"
    yield f"over all ratios). ~ marks ratios where that is more than ±{UNCERTAIN:.0%}."
    yield ""
    if peers.LEFT_OUT:
        yield from (f"- Left out: {name} ({reason})" for name, reason in peers.LEFT_OUT.items())
        yield ""
    machine = ", ".join(str(value) for value in machine_class().values())
    yield f"{time.strftime('%Y-%m')}; {machine} cores;"
    yield ", ".join(f"{library} {number}" for library, number in versions().items()) + "."


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown: the first row is its head."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (rows[0], rule, *rows[1:]):
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield " | ".join([f"| {first.strip():<{widths[0]}}", *rest]) + " |"


def show(rows: Sequence[Sequence[str]]) -> None:
    """Print a table, and on what kind of machine it was made, and when."""
    for line in table(rows):
        print(line, flush=True)
    print(here_and_now())


def here_and_now() -> str:
    """Return on what kind of machine a table was made, and when."""
    machine = ", ".join(str(value) for value in machine_class().values())
    return f"{time.strftime('%Y-%m')}; {machine} cores"


def short(value: Ratio) -> str:
    """Return a ratio in three digits, marked if it is uncertain."""
    digits = f"{value.median:.3g}" if value.median < 100 else f"{value.median:.0f}"
    return f"~{digits}" if value.spread > UNCERTAIN else digits


def _fits(members: Sequence[Result]) -> Iterator[str]:
    """Yield what each contender costs a call and a leaf: the line through the two ends."""
    few, many = members[0], members[-1]
    n, m = len(few.workload.shapes), len(many.workload.shapes)
    for name in few.times:
        low, high = (statistics.median(member.times[name]) * 1e6 for member in (few, many))
        slope = (high - low) / (m - n)
        yield f"- {name}: {low - n * slope:.1f} µs a call + {slope:.2f} µs a leaf"


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine_class() -> dict[str, str | int | None]:
    """Return what of the machine the ratios depend on."""
    info = Path("/proc/cpuinfo")
    fields = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in fields if line.startswith("model name")]
    model = models[0] if models else platform.processor()
    return {"architecture": platform.machine(), "processor": model, "cores": os.cpu_count()}


def save(results: Sequence[Result], path: Path) -> None:
    """Write the ratios as JSON."""
    record = {
        "date": time.strftime("%Y-%m"),
        "machine": machine_class(),
        "versions": versions(),
        "left_out": peers.LEFT_OUT,
        "contests": [_record(contest, members) for contest, members in by_contest(results)],
    }
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _record(contest: Contest, members: Sequence[Result]) -> dict[str, Any]:
    return {
        "family": contest.family,
        "title": contest.title,
        "reference": contest.reference,
        "ratios": {
            member.workload.title: {
                name: float(f"{r.median:.3g}") for name, r in member.ratios().items()
            }
            for member in members
        },
        "peak_bytes": {member.workload.title: member.peaks for member in members if member.peaks},
    }


def show_parts(parts: Mapping[str, Callable[[], Iterable[str]]], names: Sequence[str]) -> None:
    """Print the lines of the parts that are named, or of all, and what they were measured on."""
    unknown = [name for name in names if name not in parts]
    if unknown:
        sys.exit(f"a part must be one of {', '.join(parts)}; got {unknown[0]!r}")
    for name in names or parts:
        for line in parts[name]():
            print(line, flush=True)
    print(f"{here_and_now()};")
    print(", ".join(f"{library} {number}" for library, number in versions().items()) + ".")
