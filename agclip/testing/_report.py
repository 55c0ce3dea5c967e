"""All checks on one library, and what came out: nothing stops at the first failure."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agclip._backends import listing
from agclip.testing.checks import (
    bounds,
    errors,
    inplace,
    matrix,
    norms,
    rules,
    sampling,
    semantics,
    vectors,
)
from agclip.testing.harness.check import Check, NotApplicableError
from agclip.testing.harness.library import Library

Status = Literal["passed", "failed", "skipped", "warned"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one check.

    Attributes:
        name: The name of the check.
        about: The promise that it tests, in a sentence.
        status: "passed"; "warned" if it passed, and the library warned meanwhile; "failed"; or
            "skipped" where the library gives the check no occasion.
        detail: What was wrong, warned of, or the reason for the skip; empty if it passed.

    Example:
        >>> from agclip.testing import Outcome, Report
        >>> Report("mylib", "1.0", (Outcome("zeros", "Zeros stay zeros.", "passed"),)).ok
        True
    """

    name: str
    about: str
    status: Status
    detail: str = ""


class Counts(NamedTuple):
    """How many checks passed, failed, were skipped, and were right, but warned of."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    warned: int = 0

    def __str__(self) -> str:
        warned = f", {self.warned} right, but warned" if self.warned else ""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped{warned}"


_STATUSES: tuple[Status, ...] = ("passed", "failed", "skipped", "warned")


@dataclass(frozen=True, slots=True)
class Report:
    """What `check_backend` found out.

    Attributes:
        library: The name of the library.
        version: Its version, or None where it cannot be told.
        outcomes: One a check, in the order they ran.

    Example:
        >>> from agclip.testing import Outcome, Report
        >>> report = Report(
        ...     "mylib", "1.0", (Outcome("zeros", "Zeros stay zeros.", "failed", "-0"),)
        ... )
        >>> report.ok, report.of("failed")[0].detail, report.counts.failed
        (False, '-0', 1)
    """

    library: str
    version: str | None
    outcomes: tuple[Outcome, ...]

    def of(self, status: Status) -> list[Outcome]:
        """Return the outcomes of a status."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def ok(self) -> bool:
        """Whether no check failed; results that are right, but warned of, are no failures."""
        return not self.of("failed")

    @property
    def counts(self) -> Counts:
        """The numbers of checks by what became of them."""
        return Counts(*(len(self.of(status)) for status in _STATUSES))

    def __repr__(self) -> str:
        return f"<Report of {self._title}: {self.counts}>"

    def __str__(self) -> str:
        """Show the counts, the failures by what was wrong, and why others skipped or warned."""
        lines = [f"{self._title}: {self.counts}"]
        failed = self.of("failed")
        for detail in dict.fromkeys(outcome.detail for outcome in failed):
            for outcome in failed:
                if outcome.detail == detail:
                    lines += [f"  FAILED {outcome.name}", f"         {outcome.about}"]
            lines += [f"         {line}" for line in detail.splitlines()]
        for status in ("warned", "skipped"):
            reasons = [outcome.detail for outcome in self.of(status)]
            lines += [f"  {status} {reasons.count(why)}: {why}" for why in dict.fromkeys(reasons)]
        return "\n".join(lines)

    @property
    def _title(self) -> str:
        return f"{self.library} {self.version or ''}".rstrip()


def fixed_checks() -> tuple[Check, ...]:
    """Return every check but the properties."""
    modules = (vectors, semantics, norms, bounds, inplace, errors, rules, matrix)
    return tuple(check for module in modules for check in module.checks())


def check_backend(library: str | Library) -> Report:
    """Check that agclip keeps all its promises with a library.

    Golden vectors from exact arithmetic, the semantics of every function, the functions that work
    in place, the errors, and properties on fixed draws. Needs nothing but the library itself.

    Args:
        library: A `Library`, or the name of a backend as `agclip.get_backend` takes it.

    Returns:
        A `Report`: `report.ok` says whether all is well, `print(report)` what is not.

    Raises:
        TypeError: If agclip finds no backend for the library's arrays.
        ValueError: If no installed distribution brings a backend of that name.
        ImportError: If its library is not installed, or its adapter does not load.
        RuntimeError: If its library is installed but cannot be used here.

    Example:
        >>> from agclip.testing import check_backend
        >>> check_backend("numpy").ok
        True
    """
    if isinstance(library, str):
        library = Library(library)
    return report_on(library, (*fixed_checks(), *sampling.checks()))


def report_on(library: Library, checks: Iterable[Check]) -> Report:
    """Run some of the checks."""
    version = listing.version(library.record.name)
    return Report(library.name, version, tuple(_outcome(check, library) for check in checks))


def _outcome(check: Check, library: Library) -> Outcome:
    try:
        warned = check.run(library)
    except NotApplicableError as reason:
        return Outcome(check.name, check.about, "skipped", str(reason))
    except AssertionError as error:
        return Outcome(check.name, check.about, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - a backend may fail in any way; the report goes on
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"in {frame.name}, {frame.filename}:{frame.lineno}"
        detail = f"{type(error).__name__}: {error}\n{where}"
        return Outcome(check.name, check.about, "failed", detail)
    if warned:
        detail = f"{type(warned[0]).__name__}: {warned[0]}"
        return Outcome(check.name, check.about, "warned", detail)
    return Outcome(check.name, check.about, "passed")
