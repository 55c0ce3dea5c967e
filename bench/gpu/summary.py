"""What the parts of a whole run on a GPU have found, as one Markdown file."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def results(folder: Path) -> dict[str, Any]:
    """Return what the parts have written, by the names of their files."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): json.loads(path.read_text())
        for path in sorted(folder.rglob("*.json"))
        if path != folder / "gpu.json"
    }


def table(found: dict[str, Any]) -> str:
    """Return the report."""
    sections = (_versions, _parts, _conformance, _kernels, _public, _training)
    blocks = ["# agclip on a GPU", *("\n".join(section(found)) for section in sections)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _rows(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    head = list(head)
    yield f"| {' | '.join(map(str, head))} |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def _versions(found: dict[str, Any]) -> Iterator[str]:
    yield from _rows(("what", "version"), found["versions"].items())


def _parts(found: dict[str, Any]) -> Iterator[str]:
    yield "## Parts"
    yield ""
    rows = []
    for name, ended in found["parts"].items():
        last = next((line for line in reversed(ended["said"]) if line.strip()), "")
        rows.append((name, ended["code"], ended["seconds"], last[:160].replace("|", "/")))
    rows += [(name, "not run", "", why) for name, why in found.get("left out", {}).items()]
    yield from _rows(("part", "exit status", "seconds", "last line"), rows)
    for name, ended in found["parts"].items():
        if ended["code"] != 0:
            yield ""
            yield f"{name}:"
            yield ""
            yield from (f"    {line[:200]}" for line in ended["said"])


def _conformance(found: dict[str, Any]) -> Iterator[str]:
    counts: dict[str, collections.Counter[str]] = {}
    failures: list[str] = []
    for name, result in found["results"].items():
        if name.startswith("conformance-"):
            counts.setdefault(result["library"], collections.Counter()).update(result["counts"])
            for check, why in result["failures"].items():
                failures.append(f"- {result['library']}: {check}: {why.splitlines()[0][:160]}")
    if counts:
        yield "## Conformance suite"
        yield ""
        head = ("passed", "warned", "failed", "skipped", "not run")
        yield from _rows(
            ("library", *head), ((x, *(c[key] for key in head)) for x, c in counts.items())
        )
        yield from failures


def _kernels(found: dict[str, Any]) -> Iterator[str]:
    for folder in ("kernels", "times"):
        result = found["results"].get(f"{folder}/gpu")
        if result is None:
            continue
        yield f"## {'Checks' if folder == 'kernels' else 'Times'} of the kernels"
        yield ""
        yield f"{len(result['checks'])} checks passed; {len(result['errors'])} parts failed."
        yield from (f"- {name}: {why}" for name, why in result["errors"].items())
        for contest, rows in result["times"].items():
            yield ""
            yield f"{contest}: {json.dumps(rows)}"


def _public(found: dict[str, Any]) -> Iterator[str]:
    rows = []
    for name, cases in found["results"].items():
        if not name.startswith("public-"):
            continue
        for case, contests in cases.items():
            if isinstance(contests, str):
                rows.append((case, contests, "", ""))
                continue
            for what, times in contests.items():
                ratio = next((x for key, x in times.items() if "÷" in key), "")
                shown = ", ".join(f"{key} {x}" for key, x in times.items() if "÷" not in key)
                rows.append((case, what, shown, ratio))
    if rows:
        yield "## Public functions"
        yield ""
        yield from _rows(("case", "what", "µs", "agclip ÷ the library's"), rows)


def _training(found: dict[str, Any]) -> Iterator[str]:
    result = found["results"].get("training")
    if result is None:
        return
    yield "## Training steps"
    yield ""
    for what, rows in result.items():
        if isinstance(rows, dict):
            shown = ", ".join(f"{name} {times['wall us']}" for name, times in rows.items())
            yield f"- {what}, µs: {shown}"
