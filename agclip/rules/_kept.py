"""States of numbers that can be read for nothing: computed with as Python numbers, kept as such.

A clipper hands its state from step to step, and few look at it. So what a step leaves are numbers,
which become arrays when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from agclip._backends import kernels
from agclip._backends.backend import Backend
from agclip._backends.dtypes import kind_of
from agclip._clipping.measure import unstacked
from agclip._trees.leaves import Leaves
from agclip._typing import Array
from agclip.rules._info import host_list

_EXACT: dict[str, type[int] | type[float]] = {"int32": int, "float64": float}
"""What Python numbers hold exactly, by dtype."""


LONG = 2000
"""The longest vector that is read: beyond that a step on arrays takes less time than to make lists
of them and arrays again, where a caller has the state as arrays at every step (bench/rules.py)."""


class History(NamedTuple):
    """The numbers of a vector, and those of them that are greater than zero in their order."""

    values: list[float]
    ranked: list[float]


class Kept:
    """A state after a step, as Python numbers until its arrays are asked for.

    Once they have been, others may write to them, and the next step reads them anew.
    """

    __slots__ = ("_arrays", "_backend", "like", "numbers")

    def __init__(self, backend: Backend, like: Mapping[str, Any], numbers: dict[str, Any]) -> None:
        """Keep the numbers, and arrays of a library that those to be made are alike."""
        self._backend, self.like, self.numbers = backend, like, numbers
        self._arrays: dict[str, Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.arrays(),)

    def leads_to(self, leaves: Leaves) -> bool:
        """Tell whether a step on leaves may go on with the numbers: as with arrays of them."""
        backend = leaves.backend
        if self._arrays is not None or backend is not self._backend or leaves.access != "free":
            return False
        first = next(iter(self.like.values()))
        return bool(backend.device(first) == backend.device(leaves.arrays[0]))

    def arrays(self) -> dict[str, Any]:
        """Return the state of arrays, the very same ones from now on."""
        if self._arrays is None:
            backend, like = self._backend, self.like
            xp, scalar_like = backend.xp, backend.scalar_like
            with backend.context():
                # Of two threads that both make them the second one's stay.
                self._arrays = {
                    key: _several(backend, value, like[key])
                    if type(value) in (History, dict)
                    else scalar_like(xp, value, like[key].dtype, like[key])
                    for key, value in self.numbers.items()
                }
        return self._arrays


def _several(backend: Backend, value: History | dict[str, Any], like: Any) -> Any:
    """Return a vector, or 0-d arrays by path, which are views of one."""
    xp = backend.xp
    if isinstance(value, History):
        return kernels.number(xp, value.values, like.dtype, backend.device(like))
    one = next(iter(like.values()))
    vector = kernels.number(xp, list(value.values()), one.dtype, backend.device(one))
    return dict(zip(value, unstacked(xp, vector), strict=True))


def arrays(state: Any) -> Any:
    """Return a state of arrays: itself if it is one."""
    return state.arrays() if type(state) is Kept else state


def read(backend: Backend, state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a state of scalars and vectors, by path too; None if reading them is not free."""
    numbers: dict[str, Any] = {}
    free: type | None = None
    for key, value in state.items():
        if type(value) is dict:
            inner = read(backend, value)
            if inner is None:
                return None
            numbers[key] = inner
            continue
        exact = _EXACT.get(kind_of(value.dtype).name)
        if exact is None:
            return None
        # They are on the device of the leaves, which can be read: one of each type tells.
        if type(value) is not free and backend.access(value) != "free":
            return None
        free = type(value)
        if value.ndim and value.shape[0] > LONG:
            return None
        numbers[key] = _history(backend, value) if value.ndim else exact(value)
    return numbers


def _history(backend: Backend, vector: Array) -> History:
    with backend.context():
        ranked = host_list(backend.xp.sort(vector))
        return History(host_list(vector), [one for one in ranked if one > 0])
