"""Which backends can be tested here, and which must be."""

from __future__ import annotations

import os
from collections.abc import Iterable

import agclip

VARIABLE = "AGCLIP_REQUIRE_BACKENDS"
"""An environment variable: names of backends, separated by commas, whose absence is a failure."""


def required() -> list[str]:
    """Return the names of the backends that must be usable here."""
    names = os.environ.get(VARIABLE, "").split(",")
    return [name.strip() for name in names if name.strip()]


def unusable(names: Iterable[str] = ()) -> dict[str, str]:
    """Return why each backend that cannot be used here cannot: reasons by name.

    Args:
        names: Names that are asked for besides those installed and required.
    """
    rows = agclip.backends()
    known = {row.name for row in rows}
    reasons = {row.name: row.reason for row in rows if not row.usable}
    for name in {*names, *required()} - known:
        reasons[name] = "no installed distribution brings a backend of that name"
    return reasons
