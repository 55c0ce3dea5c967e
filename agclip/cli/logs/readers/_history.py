"""What is made of a log: the norms, their steps, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass


class LogError(Exception):
    """A log that cannot be read; the message is a clause without a dot."""


@dataclass(frozen=True, slots=True)
class History:
    """The finite gradient norms of a run, in order.

    Attributes:
        format: What the log was read as.
        column: What the norms are called in the log.
        counter: What the steps are called in the log; None if the norms were numbered from 1.
        steps: The step of each norm.
        norms: The norms; all finite.
        gaps: For each NaN or infinite norm, which is left out: how many norms come before it, and
            its step.
        overflows: How many of them were written as -1.
        wrong: How many values were no norms, and left out.
        example: The first of those, and where it stood.
        unread: How many rows could not be read; a document that is cut off counts as one.
        unread_at: Where the first of those stood.
        others: Names of other columns that may be norms.
        restarts: The steps as logged went back this often, so that the norms were numbered.
    """

    format: str
    column: str
    counter: str | None
    steps: tuple[float, ...]
    norms: tuple[float, ...]
    gaps: tuple[tuple[int, float], ...] = ()
    overflows: int = 0
    wrong: int = 0
    example: str = ""
    unread: int = 0
    unread_at: str = ""
    others: tuple[str, ...] = ()
    restarts: int = 0

    @property
    def nonfinite(self) -> int:
        """Number of NaN and infinite norms, which are left out."""
        return len(self.gaps)
