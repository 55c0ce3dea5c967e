"""The last result, written into README.md: what follows its last heading is replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import picture, report
from bench.report import Result

HEADING = "## Last result"


def save(results: Sequence[Result], readme: Path, folder: Path) -> None:
    """Keep results: JSON, pictures and the text that shows them.

    Args:
        results: The results of a whole run.
        readme: The page; its text up to `HEADING` stays.
        folder: Where JSON and pictures go, beside the page.
    """
    report.save(results, folder / "last.json")
    pictures = picture.save(results, folder, "last")
    before, heading, _ = readme.read_text(encoding="utf-8").partition(HEADING)
    text = [before + heading, "", *_lines(results, pictures, folder.name)]
    readme.write_text("\n".join(text) + "\n", encoding="utf-8")


def _lines(results: Sequence[Result], pictures: dict[str, Path], folder: str) -> Iterator[str]:
    yield from report.notes(results)
    for family, members in report.families(results).items():
        yield ""
        yield f"### {family}"
        if family in pictures:
            alt = f"Ratios of the contests {family}: the numbers are in the tables below."
            yield ""
            yield f"![{alt}]({folder}/{pictures[family].name})"
        yield from report.tables(members)
        yield from report.memory(members)
