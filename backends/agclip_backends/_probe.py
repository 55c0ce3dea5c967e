"""Whether a library can be used here, found out once."""

from __future__ import annotations

import functools
from collections.abc import Callable


def kept(probe: Callable[[], str | None]) -> Callable[[], str | None]:
    """Return a `Backend.usable` that makes a probe until it succeeds.

    The cause of a failure, such as memory that is full, may pass.
    """
    works = False

    @functools.wraps(probe)
    def usable() -> str | None:
        nonlocal works
        reason = None if works else probe()
        works = reason is None
        return reason

    return usable
