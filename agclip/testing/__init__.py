"""Conformance of array libraries: for authors of backends, and for whoever doubts a result.

`check_backend("mylib")` returns a report; `python -m agclip.testing` prints one for every backend;
`BackendConformance` is a class to subclass in a test file, and needs pytest and Hypothesis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agclip.testing._report import Outcome, Report, check_backend
from agclip.testing.harness.library import Library

if TYPE_CHECKING:
    from agclip.testing._conformance import BackendConformance

__all__ = ["BackendConformance", "Library", "Outcome", "Report", "check_backend"]


def __getattr__(name: str) -> Any:
    if name == "BackendConformance":
        try:
            from agclip.testing._conformance import BackendConformance
        except ModuleNotFoundError as error:
            msg = (
                f"BackendConformance must have pytest and Hypothesis; got: {error}. Run: pip "
                f"install pytest hypothesis"
            )
            raise ModuleNotFoundError(msg, name=error.name) from error
        return BackendConformance
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
