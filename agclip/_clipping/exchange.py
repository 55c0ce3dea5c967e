"""How scalars travel: over which links the sums of each group go, and in what kind of vector.

The number of vectors, their lengths and their operations follow from the plan, and from where types
say that leaves are: never from values, dtypes or how many leaves are here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from agclip._backends import devices, host_scalars, kernels
from agclip._clipping.plan import StaticArgs
from agclip._trees.default_backend import make
from agclip._typing import Array, Scalar
from agclip.distributed._messages import listed
from agclip.distributed._ranks import Link, Op, Ranks


class Slot(NamedTuple):
    """Scalars of a group that are to be reduced over links, given by position."""

    group: int
    key: frozenset[int]
    values: Sequence[Scalar]


class Exchange(NamedTuple):
    """One call's vectors: what carries them, and what scalars are on both sides."""

    call: StaticArgs
    ranks: Ranks
    first: Array
    """The first leaf: scalars are on its device."""
    m: Any
    """What the scalars are written in: floats, or arrays of the library."""

    def reduced(
        self, slots: Sequence[Slot], op: Op, head: Sequence[Scalar] = ()
    ) -> tuple[dict[int, list[Scalar]], list[Scalar]]:
        """Reduce the scalars of each group over its links: a vector a link, the head in each.

        What goes over the same links is joined before it goes.

        Returns:
            The scalars of each group, and the head.
        """
        if self.ranks.inside:
            return self._inside(slots, op), []
        pending, head, last = self._joined(slots, op), list(head), len(head) - 1
        for position, link in enumerate(self.ranks.links):
            active = [at for at in pending if position in at[1]]
            if not active:
                continue
            sent = [*head, *(value for at in active for value in pending[at])]
            if op == "sum" and head and position not in self.ranks.common:
                sent[last] = 0.0
            came = self._over(link, sent, op)
            if op == "sum" and head and position not in self.ranks.common:
                came[last] = head[last]
            head, came = came[: len(head)], came[len(head) :]
            done: list[Slot] = []
            for at in active:
                count = len(pending.pop(at))
                done.append(Slot(at[0], at[1] - {position}, came[:count]))
                came = came[count:]
            rest = [Slot(group, key, values) for (group, key), values in pending.items()]
            pending = self._joined([*rest, *done], op)
        return {group: values for (group, _), values in pending.items()}, head

    def by_host(self) -> Exchange:
        """Return what carries floats by way of host memory, whatever leaves are."""
        if self.m is host_scalars:
            return self
        return self._replace(call=self.call._replace(host=False), m=host_scalars)

    def _inside(self, slots: Sequence[Slot], op: Op) -> dict[int, list[Scalar]]:
        """Reduce the scalars of each group in the program: all that has the same axes at once."""
        pending = self._joined(slots, op)
        done: list[Slot] = []
        for axes in dict.fromkeys(key for _, key in pending):
            mine = [at for at in pending if at[1] == axes]
            values: list[Scalar] = [value for at in mine for value in pending[at]]
            if axes:
                names = tuple(str(self.ranks.links[i]) for i in sorted(axes))
                backend = self.call.backend
                values = list(backend.all_reduce(backend.xp, values, names, op))
            for group, _ in mine:
                count = len(pending[group, axes])
                done.append(Slot(group, frozenset(), values[:count]))
                values = values[count:]
        return {group: values for (group, _), values in self._joined(done, op).items()}

    def _joined(
        self, slots: Sequence[Slot], op: Op
    ) -> dict[tuple[int, frozenset[int]], list[Scalar]]:
        """Return the scalars by group and links."""
        found: dict[tuple[int, frozenset[int]], list[Scalar]] = {}
        for group, key, values in slots:
            held = found.get((group, key))
            if held is None:
                found[group, key] = list(values)
            elif op == "sum":
                found[group, key] = [a + b for a, b in zip(held, values, strict=True)]
            else:
                pairs = zip(held, values, strict=True)
                found[group, key] = [self.m.maximum(a, b) for a, b in pairs]
        return found

    def _over(self, link: Link | str, values: Sequence[Scalar], op: Op) -> list[Scalar]:
        """Return scalars reduced over one link."""
        backend, xp = self.call.backend, self.call.backend.xp
        assert isinstance(link, Link), "axes are reduced over by the program"
        if self.m is host_scalars:
            if self.call.host:
                device = backend.device(self.first)
                vector = kernels.number(xp, list(values), xp.float64, device)
            else:
                vector = make(list(values), "float64")
            return [float(x) for x in listed(link.all_reduce(link.comm, vector, op))]
        ones = [self.array(value) for value in values]
        vector = xp.stack(ones)
        came = link.all_reduce(link.comm, vector, op)
        if type(came) is not type(vector):  # of another library, or a list
            values = [float(x) for x in listed(came)]
            came = kernels.number(xp, values, vector.dtype, backend.device(self.first))
        return [came[i, ...] for i in range(len(ones))]

    def array(self, value: Scalar) -> Array:
        """Return a scalar as an array of the first leaf's device."""
        backend, acc_dtype = self.call.backend, self.call.acc_dtype
        if isinstance(value, float):
            return devices.constant(backend, value, acc_dtype, self.first)
        device = backend.device(self.first)
        moved = devices.to_device(backend, value, device)
        return kernels.cast(backend.xp, moved, acc_dtype)
