"""`python -m agclip.testing [NAME ...]`: the conformance report of every backend, or of some."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

import agclip
from agclip.testing._report import Counts, check_backend
from agclip.testing._required import VARIABLE, required, unusable
from agclip.testing._surroundings import described
from agclip.testing.harness.library import Library


def main(argv: Sequence[str] | None = None) -> int:
    """Check backends, print a report of each, and last the counts over all of them.

    Args:
        argv: The names of backends, and options; no names for every one that is installed.

    Returns:
        The exit status: 0 if nothing failed or was warned of, 1 otherwise.
    """
    args = _parser().parse_args(argv)
    print(described())
    must = {*required(), *args.names}
    absent = unusable(args.names)
    totals = Counts()
    for name in args.names or sorted({row.name for row in agclip.backends()} | must):
        if name in absent:
            print(f"{name}: NOT TESTED: {absent[name]}")
            counts = Counts(failed=1) if name in must else Counts(skipped=1)
        else:
            counts = _checked(name, ignore_warnings=args.ignore_warnings)
        totals = Counts(*map(sum, zip(totals, counts, strict=True)))
    print(totals)
    return 1 if totals.failed or totals.warned else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m agclip.testing",
        description="Check that agclip keeps its promises with the array libraries installed here.",
        epilog=f"Backends named in {VARIABLE}, or as arguments, must be usable: else it fails.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a backend; all by default")
    parser.add_argument(
        "--ignore-warnings",
        action="store_true",
        help="let results pass that are right, but that the library warns of",
    )
    return parser


def _checked(name: str, *, ignore_warnings: bool) -> Counts:
    """Print the report of a backend and return its counts; one that breaks has failed."""
    ignored = (RuntimeWarning, UserWarning) if ignore_warnings else ()
    try:
        report = check_backend(Library(name, ignored_warnings=ignored))
    except Exception as error:  # noqa: BLE001 - the others are to be tested whatever it raises
        print(f"{name}: NOT TESTED: {type(error).__name__}: {error}")
        return Counts(failed=1)
    print(report)
    return report.counts


if __name__ == "__main__":
    sys.exit(main())
