"""Leaves that are worked on together: an operation costs more than a small leaf does."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


def alike(keys: Iterable[Hashable]) -> list[list[int]]:
    """Return the positions of each key together; one whose key is None stays by itself."""
    groups: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        # No other key of a caller's is a number.
        groups.setdefault(i if key is None else key, []).append(i)
    return list(groups.values())
