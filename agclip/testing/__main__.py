"""`python -m agclip.testing [NAME ...]`: the conformance report of every backend, or of some."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

import agclip
from agclip.testing._report import check_backend, summary
from agclip.testing._required import VARIABLE, required, unusable


def main(argv: Sequence[str] | None = None) -> int:
    """Check backends, print a report of each, and last the counts over all of them.

    Args:
        argv: The names of backends; none for every one that is installed.

    Returns:
        The exit status: 0 if nothing failed, 1 otherwise.
    """
    parser = ArgumentParser(
        prog="python -m agclip.testing",
        description="Check that agclip keeps its promises with the array libraries installed here.",
        epilog=f"Backends named in {VARIABLE}, or as arguments, must be usable: else it fails.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a backend; all by default")
    names = parser.parse_args(argv).names
    must = {*required(), *names}
    absent = unusable(names)
    totals = [0, 0, 0]
    for name in names or sorted({row.name for row in agclip.backends()} | must):
        if name in absent:
            print(f"{name}: NOT TESTED: {absent[name]}")
            totals[1 if name in must else 2] += 1
            continue
        report = check_backend(name)
        print(report)
        totals = [total + count for total, count in zip(totals, report.counts, strict=True)]
    passed, failed, skipped = totals
    print(summary((passed, failed, skipped)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
