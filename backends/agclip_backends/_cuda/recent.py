"""What is kept of the latest lists of leaves: not for ever, and not without end."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_LISTS = 1024
"""Lists: a model whose gradients are clipped one by one has hundreds of one leaf each."""
MOST_ROWS = 1 << 16
"""Leaves of all lists, or slices of them: those of 64 lists of a thousand."""


class Recent(dict[Hashable, T], Generic[T]):
    """A dict of the latest entries, which forgets the oldest. Reading it is a dict's."""

    def __init__(self) -> None:
        """Begin with nothing kept."""
        super().__init__()
        self._lock = threading.Lock()
        self._rows: dict[Hashable, int] = {}
        self._held = 0

    def keep(self, key: Hashable, value: T, rows: int) -> None:
        """Keep a value of so many rows; the latest one is kept however many it has."""
        with self._lock:
            self._forget(key)
            while self and (len(self) >= MOST_LISTS or self._held + rows > MOST_ROWS):
                self._forget(next(iter(self)))
            self[key] = value
            self._rows[key] = rows
            self._held += rows

    def _forget(self, key: Hashable) -> None:
        self.pop(key, None)
        self._held -= self._rows.pop(key, 0)
