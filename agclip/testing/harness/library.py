"""How the suite makes and reads the arrays of a library, and what it finds out about it."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agclip._backends import registry
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._typing import Array, Device, DType, Namespace, Tree
from agclip.testing.harness.formats import FORMATS

Number = bool | int | float | complex

Wrap = Callable[[Callable[..., Tree]], Callable[..., Tree]]
"""A compiler: takes a function of trees of arrays and of numbers, and returns its compiled self."""


class NotApplicableError(Exception):
    """The library gives a check no occasion: it has no such dtype, say."""


@dataclass(frozen=True, eq=False)
class Library:
    """An array library as the conformance suite uses it.

    For most libraries `Library("name")` is enough: what can be tested is tested and not asked.

    Attributes:
        backend: The name of the backend, as `agclip.get_backend` takes it.
        name: What reports call the library; the backend's name if empty.
        xp: The array namespace; None for that of the backend. Give it for a library that follows
            the standard and needs no backend.
        device: Where arrays are made; None for the library's default.
        dtypes: Dtypes by name that the namespace does not hold, such as
            `{"bfloat16": ml_dtypes.bfloat16}`.
        asarray: `(nested_list, dtype)` → an array; None for `xp.asarray`.
        tolist: `(array)` → nested list of Python numbers; None to try `tolist()`, and otherwise to
            read entry by entry. A lazy array is computed first, by its `compute()`.
        wrap: How functions are called: a compiler such as a `jit`, which must keep containers as
            they are (dicts in their order). None for direct calls.
        traced: Whether a wrapped function cannot read the values of its arguments.
        ignored_warnings: Categories of warnings that the library gives for what it computes
            rightly. Another RuntimeWarning or UserWarning makes a result "right, but warned".

    Example:
        >>> from agclip.testing import Library
        >>> Library("numpy", dtypes={"float16": np.float16}).name
        'numpy'
    """

    backend: str
    name: str = ""
    xp: Namespace = None
    device: Device = None
    dtypes: Mapping[str, DType] = field(default_factory=dict)
    asarray: Callable[[Any, DType], Array] | None = None
    tolist: Callable[[Array], Any] | None = None
    wrap: Wrap | None = None
    traced: bool = False
    ignored_warnings: tuple[type[Warning], ...] = ()

    def __post_init__(self) -> None:
        """Fill in what follows from the backend's name."""
        if not self.name:
            object.__setattr__(self, "name", self.backend)
        if self.xp is None:
            object.__setattr__(self, "xp", registry.named(self.backend).xp)

    def __str__(self) -> str:
        return self.name

    def array(
        self, values: Sequence[Number], dtype: str, shape: tuple[int, ...] | None = None
    ) -> Array:
        """Return a new array of numbers, given in row-major order.

        Raises:
            NotApplicableError: If the library has no such dtype.
        """
        shape = (len(values),) if shape is None else shape
        if 0 in shape:
            return self.xp.reshape(self._make([], self.dtype(dtype)), shape)
        if not shape and self.asarray is None and repr(values[0]) == "-0.0":
            # A library may make an array of what equals zero by clearing its memory.
            return self.xp.reshape(self._make(list(values), self.dtype(dtype)), shape)
        return self._make(_nested(list(values), shape), self.dtype(dtype))

    def _make(self, nested: Any, dtype: DType) -> Array:
        if self.asarray is not None:
            return self.asarray(nested, dtype)
        where = {} if self.device is None else {"device": self.device}
        return self.xp.asarray(nested, dtype=dtype, **where)

    def numbers(self, array: Array) -> list[Any]:
        """Return the elements as Python numbers in row-major order."""
        kind = kind_of(array.dtype)
        convert = {"real": float, "complex": complex, "integer": int, "other": bool}[kind.family]
        return [convert(value) for value in _flat(self._read(array))]

    def _read(self, array: Array) -> Any:
        if self.tolist is not None:
            return self.tolist(array)
        if hasattr(array, "compute"):
            # What a lazy library warns of while it computes, long after the call, is its own.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                array = array.compute()
        if hasattr(array, "tolist"):
            return array.tolist()
        return [array[index] for index in itertools.product(*map(range, array.shape))]

    def call(self, function: Callable[..., Tree], *trees: Tree) -> Tree:
        """Call a function of trees of arrays, through the compiler if there is one."""
        if self.wrap is None:
            return function(*trees)
        if function not in self._wrapped:
            self._wrapped[function] = self.wrap(function)
        return self._wrapped[function](*trees)

    @functools.cached_property
    def _wrapped(self) -> dict[Callable[..., Tree], Callable[..., Tree]]:
        return {}

    @functools.cached_property
    def _dtypes(self) -> dict[str, DType]:
        return {}

    def dtype(self, name: str) -> DType:
        """Return a dtype object.

        Raises:
            NotApplicableError: If the library has no such dtype on this device.
            NotImplementedError: If it has no `asarray`: nothing could be checked.
            TypeError: If it has no float32, likewise.
        """
        if name not in self._dtypes:
            self._dtypes[name] = self._find(name)
        if self._dtypes[name] is None and name == "float32":
            # An incomplete namespace says here what it lacks.
            _ = self.asarray or self.xp.asarray
            msg = (
                f"`library` must make float32 arrays; got none from {self}. Give it `asarray`, or "
                f"`dtypes` with the dtype."
            )
            raise TypeError(msg)
        if self._dtypes[name] is None:
            msg = f"{self} has no {name}"
            raise NotApplicableError(msg)
        return self._dtypes[name]

    def _find(self, name: str) -> DType | None:
        dtype = self.dtypes.get(name, getattr(self.xp, name, None))
        if dtype is None:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                made = self._make([1], dtype)
        except Exception:  # noqa: BLE001 - in whatever way a library refuses, it has no such dtype
            return None
        return dtype if kind_of(made.dtype).name == name else None

    def has(self, name: str) -> bool:
        """Tell whether arrays of a dtype can be made on this device."""
        try:
            self.dtype(name)
        except NotApplicableError:
            return False
        return True

    def require(self, fact: bool, otherwise: str) -> None:
        """Raise a `NotApplicableError` for a check that the library gives no occasion.

        Args:
            fact: What the check needs.
            otherwise: What the library does or has instead, as "has no complex numbers".
        """
        if not fact:
            msg = f"{self} {otherwise}"
            raise NotApplicableError(msg)

    @functools.cached_property
    def record(self) -> Backend:
        """The backend that agclip finds for the arrays of this library."""
        found = registry.resolve(self._sample)
        if found is None:
            msg = (
                f"the arrays of {self} must belong to a backend; got none for "
                f"{type(self._sample).__module__}.{type(self._sample).__qualname__}. The name of a "
                f"backend must be the top-level package that defines the array's class."
            )
            raise TypeError(msg)
        return found

    @property
    def _sample(self) -> Array:
        return self.array([1.0, 2.0], "float32")

    @functools.cached_property
    def identity_is_object(self) -> bool:
        """Whether a leaf that is not clipped comes back as the very same object."""
        return self.wrap is None and self.record.access(self._sample) == "free"

    @functools.cached_property
    def writable(self) -> bool:
        """Whether its arrays can be written in place, as the backend says."""
        return self.record.unwritable(self._sample) is None

    @functools.cached_property
    def sums_in_float64(self) -> bool:
        """Whether norms are summed in float64; where a device has none they are less certain."""
        return kind_of(self.record.acc_dtype(self.xp, self._sample)).name == "float64"

    def flushes_subnormals(self, dtype: str) -> bool:
        """Tell whether arithmetic takes numbers below the normal range for zero."""
        if dtype not in self._flushing:
            x = self.array([FORMATS[dtype].smallest_subnormal], dtype)
            self._flushing[dtype] = self.numbers(x + x) == [0.0]
        return self._flushing[dtype]

    @functools.cached_property
    def _flushing(self) -> dict[str, bool]:
        return {}


def _nested(values: list[Number], shape: tuple[int, ...]) -> Any:
    if len(shape) < 2:
        return values if shape else values[0]
    step = math.prod(shape[1:])
    return [_nested(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def _flat(nested: Any) -> list[Any]:
    if not isinstance(nested, list):
        return [nested]
    return [value for row in nested for value in _flat(row)]
