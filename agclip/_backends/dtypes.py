"""Data types by name, so that every library's dtype objects are judged alike.

`isdtype` and `finfo` of the standard refuse extension types (NumPy's bfloat16 and float8 come from
`ml_dtypes`); a name does not.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any, Literal

from agclip._typing import DType, Namespace


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What the clips need to know of a dtype.

    Example:
        >>> from agclip.adapters import kind_named
        >>> kind = kind_named("float16")
        >>> kind.precision, kind.largest, kind.unit_roundoff == 2**-11
        (11, 65504.0, True)
        >>> kind.half, kind.stored
        (True, False)
    """

    name: str
    family: Literal["real", "complex", "integer", "none", "other"]
    """"none" is that of JAX's float0, whose elements take no bytes."""
    precision: int
    """Significant bits of the real type, the implicit one included; 0 for integers and others."""
    lowest: float
    """The smallest finite value, an int for integers."""
    largest: float
    """The largest finite value, an int for integers."""
    infinite: bool = True
    """Whether a real type has infinities."""

    @property
    def half(self) -> bool:
        """Narrower than float32, so multiplied in float32 and rounded once."""
        return 0 < self.precision < 24

    @property
    def stored(self) -> bool:
        """A float8, to keep numbers in. Libraries cast it, and compute with it hardly or not."""
        return 0 < self.precision < 8

    @property
    def unit_roundoff(self) -> float:
        """Half the spacing of the numbers just above one."""
        return 2.0**-self.precision


_REAL = {
    "float8_e3m4": (5, 15.5),
    "float8_e4m3": (4, 240.0),
    "float8_e4m3b11fnuz": (4, 30.0),
    "float8_e4m3fn": (4, 448.0),
    "float8_e4m3fnuz": (4, 240.0),
    "float8_e5m2": (3, 57344.0),
    "float8_e5m2fnuz": (3, 57344.0),
    "bfloat16": (8, 2.0**128 - 2.0**120),
    "float16": (11, 65504.0),
    "float32": (24, 2.0**128 - 2.0**104),
    "float64": (53, sys.float_info.max),
}
_WITHOUT_INFINITY = ("fn", "fnuz")
_COMPLEX = {"complex64": _REAL["float32"], "complex128": _REAL["float64"]}
_INTEGER = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}

_BY_NAME: dict[str, Kind] = {
    **{
        name: Kind(name, "real", bits, -top, top, not name.endswith(_WITHOUT_INFINITY))
        for name, (bits, top) in _REAL.items()
    },
    **{name: Kind(name, "complex", bits, -top, top) for name, (bits, top) in _COMPLEX.items()},
    **{name: Kind(name, "integer", 0, low, top) for name, (low, top) in _INTEGER.items()},
    "bool": Kind("bool", "other", 0, 0, 0),
}
# By type first: dtypes of two libraries may hash alike, and dislike being compared. And since
# Dynamo cannot hash NumPy's (PyTorch 2.11), it must not come upon them where it looks up its own.
_BY_DTYPE: dict[type, dict[DType, Kind]] = {}


def kind_of(dtype: DType) -> Kind:
    """Return the `Kind` of a dtype object of any library.

    Example:
        >>> kind_of(np.dtype("complex64")).family, kind_of(np.dtype("complex64")).precision
        ('complex', 24)
    """
    try:
        return _BY_DTYPE[type(dtype)][dtype]
    except KeyError:
        return _found(dtype)


def _found(dtype: DType) -> Kind:
    name = getattr(dtype, "name", None) or re.findall(r"\w+", str(dtype))[-1]
    found = _BY_NAME.get(name) or Kind(name, "other", 0, 0, 0)
    if getattr(dtype, "names", None) == ("float0",):
        found = Kind("float0", "none", 0, 0, 0)
    return _BY_DTYPE.setdefault(type(dtype), {}).setdefault(dtype, found)


def kind_named(name: str) -> Kind:
    """Return the `Kind` of a dtype of the standard, or of a narrower one, by name.

    Example:
        >>> kind_named("bfloat16").precision, kind_named("bfloat16").half
        (8, True)
    """
    return _BY_NAME[name]


def learn_dtypes(xp: Namespace) -> None:
    """Enter a namespace's dtypes ahead of time, so that tracing a call finds them and adds none."""
    for name, kind in _BY_NAME.items():
        dtype: Any = getattr(xp, name, None)
        if dtype is not None:
            _BY_DTYPE.setdefault(type(dtype), {})[dtype] = kind


def real_dtype(xp: Namespace, kind: Kind) -> DType:
    """Return the real dtype in which a leaf of this kind is multiplied: float32 or float64."""
    return xp.float64 if kind.precision == 53 else xp.float32


def complex_dtype(xp: Namespace, acc_dtype: DType) -> DType | None:
    """Return the complex dtype that goes with one of sums; None where a library has no such."""
    if kind_of(acc_dtype).precision == 53:
        found: DType | None = getattr(xp, "complex128", None)
        return found
    return xp.complex64


def narrower(kind: Kind, acc_dtype: str) -> bool:
    """Tell whether squares of this kind, summed in the dtype named `acc_dtype`, stay in its range.

    A square of a float32 is exact in float64 and lies in [2**-298, 2**256]; one of a float16 or a
    float8 in float32 lies in [2**-48, 2**32] or so. bfloat16 has the range of float32.
    """
    if acc_dtype == "float64":
        return kind.precision <= 24
    return kind.half and kind.name != "bfloat16"
