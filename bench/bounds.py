"""A bound for each call, such that every call has the same work to do.

A call that returns new arrays leaves its input as it was, so its bound is a constant. A call in
place leaves a norm equal to its bound, and the same bound would find nothing to clip the next time.
So there the bound shrinks a little from call to call: each one clips for certain, and nothing has
to be restored in between. Once it has shrunk by e^-0.5 the input is restored, which adds 1/512 of a
copy to the average call (1/32 in half precision).
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from bench.arrays import as_numpy
from bench.workloads import Gradients

T = TypeVar("T")

_BITS, _HALF_BITS = 10, 6
"""A step of 2^-10 is far beyond the rounding of a norm; bfloat16 has but 8 bits."""


class Bounds:
    """The bounds of one contender.

    Args:
        first: The bound of the first call.
        clips: Whether the calls clip; otherwise the norm is within the bound.
    """

    def __init__(self, first: float, *, clips: bool) -> None:
        self.first = first
        self.last = first
        self._clips = clips
        self._calls = 0
        self._bits = _BITS
        self._written: list[tuple[Any, Any]] = []

    def overwriting(self, leaves: list[T], source: Gradients) -> list[T]:
        """Return leaves in host memory that the calls overwrite; the bound shrinks from now on."""
        self._written = [(as_numpy(leaf), was) for leaf, was in zip(leaves, source, strict=True)]
        self._bits = _HALF_BITS if source[0].dtype.itemsize == 2 else _BITS
        return leaves

    def __call__(self) -> float:
        """Return the bound of the next call."""
        if self._clips and self._written:
            self._calls += 1
            self.last *= 1 - 0.5**self._bits
            if self._calls == 2 ** (self._bits - 1):
                self._restart()
        return self.last

    def _restart(self) -> None:
        self._calls, self.last = 0, self.first
        for leaf, values in self._written:
            np.copyto(leaf, values)
