"""The types that signatures speak of: an array, its namespace, a tree of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, SupportsFloat, TypeAlias, TypedDict, TypeVar

Array: TypeAlias = Any
"""An array of any library: the Array API standard defines its behaviour, but no static type."""

Namespace: TypeAlias = Any
"""A namespace of the Array API standard: a module, or what `__array_namespace__()` returns."""

DType: TypeAlias = Any
"""A data type object of some array library."""

Device: TypeAlias = Any
"""A device object of some array library."""

Scalar: TypeAlias = Any
"""A Python float, or a 0-d array in the widest real dtype of its device."""

Tree: TypeAlias = Any
"""An array, or a list, tuple, namedtuple, dict or registered container of trees; leaves or None."""

T = TypeVar("T")

Access: TypeAlias = Literal["free", "graph", "sync", "never"]
"""What reading the value of an array costs.

* "free": nothing, and the value may leave the library (NumPy, torch on the CPU);
* "graph": nothing, but arithmetic must stay in arrays, because the library records or compiles it;
* "sync": a synchronisation or a computation (an array on a device, a lazy array);
* "never": there is no value yet (a traced array).
"""

NonFinite: TypeAlias = Literal["propagate", "error", "zero", "skip"]
"""What becomes of a group of gradients with a NaN or an infinity in it."""

Axes: TypeAlias = tuple[int, ...] | None
"""Axes that a norm is taken over; None for all of them."""

UnitAxes: TypeAlias = Literal["out_in", "in_out"] | int | Sequence[int] | Callable[[str, Any], Any]
"""Which axes make a unit of adaptive clipping: a layout, axes, or a function of (path, leaf)."""


Replicas: TypeAlias = int | Mapping[str, int] | Callable[[str, Any], int] | Literal["auto"] | None
"""On how many ranks leaves are held: a number, numbers by pattern, a function of (path, leaf)."""


class ScalarArray(Protocol):
    """What a static type can say of a 0-d array."""

    @property
    def dtype(self) -> Any:
        """Its data type."""
        ...

    @property
    def shape(self) -> Any:
        """Its shape: no dimension."""
        ...


Bound: TypeAlias = SupportsFloat | ScalarArray | None
"""A bound that a caller gives: a number or a 0-d array; None for no bound."""

Number: TypeAlias = SupportsFloat | ScalarArray
"""A number that a caller gives, or a 0-d array."""

Numbers: TypeAlias = (
    Sequence[float] | Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]
)
"""A nested list of Python numbers, which stands for one array."""


class LeafOptions(TypedDict, total=False):
    """The options of clips of single leaves, for overloads."""

    nonfinite: NonFinite | None
    strict: bool | None
    reproducible: bool | None
    loss_scale: Number | None


Order: TypeAlias = float | Literal["inf"]
"""The order of a norm."""
