"""PyTorch's coefficient of clipping by the total norm, as a limit on that norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip._clipping.measure import unscaled_value, widened
from agclip._clipping.plan import Inputs, StaticArgs
from agclip._numerics.ranges import Norm
from agclip._typing import Scalar

EPS = 1e-6
_NEGLIGIBLE = 1e12
"""Above this 1e-6 is below half a unit in the last place of a float64."""


class TotalNorm(NamedTuple):
    """The limit c·n / (n + 1e-6), which makes the coefficient min(c / (n + 1e-6), 1)."""

    def __call__(
        self, call: StaticArgs, norms: Sequence[Norm], inputs: Inputs, /
    ) -> tuple[list[Scalar], Any]:
        """Return the limit of the one group; c where n is 0, for nothing exceeds it then."""
        m = call.m
        bound = widened(call, inputs.arrays, inputs.bound)
        n = unscaled_value(call, norms[0], None)
        small = m.where((n > 0) & (n < _NEGLIGIBLE), n, 1.0)
        shrunk = bound * (small / (small + EPS))
        return [m.where((n > 0) & (n < _NEGLIGIBLE), shrunk, bound)], None
