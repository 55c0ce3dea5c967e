"""Ranks whose device has no float64: they measure in float32, and tell in the units of the others.

Vectors are float64. What has been scaled to stay in the range of float32 is taken back to its value
on the host, which float64 holds; what comes back is scaled for the device again.
"""

from __future__ import annotations

from collections.abc import Sequence

from agclip._numerics.ranges import RANGES, Norm

_HERE = RANGES["float32"]
_LARGE = 2.0**50
"""The norm from which a device scales elements down."""


def sums(values: Sequence[float], widths: Sequence[int], order: int) -> list[float]:
    """Return the sums of parts, of one number or of three, as the plain sums that they are."""
    found: list[float] = []
    start = 0
    for width in widths:
        part = values[start : start + width]
        start += width
        if width > 1:
            down, plain, up = part
            total = down / _HERE.down**order + plain + up / _HERE.up**order
            part = [0.0, total, 0.0]
        found += part
    return found


def moduli(values: Sequence[float]) -> list[float]:
    """Return pairs of a largest modulus, and 0 or it scaled down, as the modulus alone."""
    found: list[float] = []
    for plain, scaled in zip(values[::2], values[1::2], strict=True):
        found += [plain + scaled / _HERE.down, 0.0]
    return found


def unit(scale: float, unit: float, top: float) -> tuple[float, float]:
    """Return a scale and a unit of float32 between which there is the quotient of these."""
    small = _HERE.up if top < _HERE.up**-0.5 else 1.0
    here = _HERE.down if top > _HERE.down**-0.5 else small
    return here, unit / scale * here


def norm(found: Norm) -> Norm:
    """Return a norm of floats with a root in the middle of the range of float32."""
    value = found.root / found.scale
    scale = _HERE.up if 0.0 < value < _HERE.low**0.5 else 1.0
    if value >= _LARGE:
        scale = _HERE.down
    return Norm(value * scale, scale, found.finite)
