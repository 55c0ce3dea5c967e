"""What a check is, and how it says that it failed or does not apply."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agclip.config import Given, config_context
from agclip.testing.harness.library import Library, NotApplicableError

__all__ = ["Check", "ConformanceError", "NotApplicableError", "expect", "expect_same", "over"]


_DEFAULTS: Given = {
    "backend": "auto",
    "device": "auto",
    "nonfinite": "propagate",
    "reproducible": False,
    "strict": False,
}
"""What decides over results; how they are computed is left as it is configured."""


class ConformanceError(AssertionError):
    """The library gave something else than agclip promises."""


def expect(holds: object, failure: str) -> None:
    """Raise a `ConformanceError` that says what was wrong, unless a condition holds."""
    if not holds:
        raise ConformanceError(failure)


def expect_same(got: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
    """Compare numbers bit by bit, but for the payload of NaN, and name the first that differs."""
    expect(len(got) == len(wanted), f"{what} must have {len(wanted)} elements; got {len(got)}")
    for i, (one, other) in enumerate(zip(got, wanted, strict=True)):
        expect(repr(one) == repr(other), f"{what}, entry {i}, must be {other!r}; got {one!r}")


def error_of(call: Callable[[], object]) -> str:
    """Return the class and the text of what a call raises; "no error" if it raises nothing."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - a library may raise anything: the check judges it
        return f"{type(error).__name__}: {error}"
    return "no error"


def require_writable(library: Library) -> None:
    """Leave a check out for a library whose arrays cannot be written in place."""
    library.require(library.writable, "has no arrays that can be written")


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, and the function that tests it.

    Attributes:
        name: Unique; what a report and a test's id show.
        about: The promise in a sentence.
        body: Raises `ConformanceError` if the promise is broken, and `NotApplicableError` if the
            library gives no occasion to break it.
    """

    name: str
    about: str
    body: Callable[[Library], None]

    def run(self, library: Library) -> list[Warning]:
        """Run the check, and return what was warned of: a call that is right has no reason to.

        What is configured for a program is no matter of its libraries: the defaults hold.
        """
        with warnings.catch_warnings(record=True) as caught, config_context(**_DEFAULTS):
            warnings.simplefilter("always", RuntimeWarning)
            warnings.simplefilter("always", UserWarning)
            for category in library.ignored_warnings:
                warnings.simplefilter("ignore", category)
            self.body(library)
        given = [warning.message for warning in caught]
        return [w for w in given if isinstance(w, (RuntimeWarning, UserWarning))]


def over(cases: Iterable[Any], *bodies: Callable[[Library, Any], None]) -> list[Check]:
    """Return a check for every body and case; a case is shown by its name, or as it is."""
    return [_case(body, case) for body in bodies for case in cases]


def _case(body: Callable[[Library, Any], None], case: Any) -> Check:
    def run(library: Library) -> None:
        body(library, case)

    shown = getattr(case, "name", None) or getattr(case, "__name__", str(case)).strip("_")
    name = f"{_title(body)} [{shown}]"
    return Check(name, _sentence(body), run)


def plain(*bodies: Callable[[Library], None]) -> list[Check]:
    """Return a check for every body."""
    return [Check(_title(body), _sentence(body), body) for body in bodies]


def _title(body: Callable[..., None]) -> str:
    return body.__name__.replace("_", " ")


def _sentence(body: Callable[..., None]) -> str:
    return (body.__doc__ or "").partition("\n")[0]
