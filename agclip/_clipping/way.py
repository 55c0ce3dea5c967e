"""How the norms of one call are found over ranks: what is reduced, and what is said beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from agclip._backends import batch, host_scalars, kernels
from agclip._backends.dtypes import Kind, kind_of
from agclip._clipping.exchange import Exchange, Slot
from agclip._clipping.plan import Inputs, Plan, StaticArgs
from agclip._clipping.rank_sums import Part
from agclip._numerics import rounding
from agclip._numerics.ranges import RANGES, Range
from agclip._typing import Access, Array, Scalar
from agclip.distributed import _links, _messages, _peaks


class Way(NamedTuple):
    """What a call reduces over ranks, and how."""

    call: StaticArgs
    parts: list[Part]
    exchange: Exchange
    arrays: Sequence[Array]
    kinds: frozenset[Kind]
    """What is held here: of a stand-in nothing."""
    digest: int | None
    """None where no vector has a head: one program runs on every rank."""
    limited: bool
    """Whether what the norm is compared with is a number of the call."""
    probing: bool
    """Whether the first vector is a sum, though the norm is the reproducible one."""

    @property
    def m(self) -> Any:
        """What the scalars are written in once they have travelled."""
        return self.exchange.m

    @property
    def single(self) -> bool:
        """Whether leaves are measured in float32 here, and told in float64: see `single`."""
        return self.m is host_scalars and kind_of(self.call.acc_dtype).name == "float32"

    @property
    def limits(self) -> Range:
        """Return the range of what is told, with which sums are scaled."""
        return RANGES["float64" if self.single else kind_of(self.call.acc_dtype).name]

    @property
    def groups(self) -> int:
        """How many norms are found."""
        return 1 + max(part.group for part in self.parts)

    def local(self, function: Callable[..., list[Scalar]], *arrays: Any, static: Any = ()) -> Any:
        """Return what a function of leaves finds here, as scalars of the exchange."""
        call = self.call
        run = kernels.run if self.exchange.ranks.inside else call.backend.run
        found = run(function, (call, tuple(self.parts), *static), (*arrays,))
        if self.m is host_scalars and not call.host:
            return [float(value) for value in found]
        return found

    def slots(self, values: Sequence[Scalar], width: int | Sequence[int]) -> list[Slot]:
        """Return the scalars of the parts, so many of each, as what is to be reduced."""
        widths = [width] * len(self.parts) if isinstance(width, int) else width
        made, start = [], 0
        for part, count in zip(self.parts, widths, strict=True):
            made.append(Slot(part.group, part.key, values[start : start + count]))
            start += count
        return made

    def say_failed(self) -> None:
        """Send the first vector in such a way that every rank raises an error."""
        if self.digest is None:
            return
        if self.probing or by_sum(self.call.plan):
            head = _messages.sum_head(
                frozenset(), self.digest, 0.0, silent=True if self.probing else None
            )
            head[0] += _messages.A_FAILURE
            if self.probing:
                parts = [part for part in self.parts if part.joint]
                slots = [Slot(x.group, x.key, [0.0] * (3 + _peaks.COUNT)) for x in parts]
            else:
                widths = widths_of(self)
                slots = self.slots([0.0] * sum(widths), widths)
            self.first.reduced(slots, "sum", head)
        else:
            width = 2 if self.call.plan.order == math.inf else 1
            values = [*[0.0] * width, _messages.FAILED] * len(self.parts)
            head = _messages.max_head(frozenset(), self.digest)
            self.exchange.reduced(self.slots(values, width + 1), "max", head)

    def say_lost(self, width: int) -> None:
        """Send the second vector in such a way that every rank raises an error."""
        if self.digest is not None:
            values = [math.nan] * (width * len(self.parts))
            self.exchange.reduced(self.slots(values, width), "sum")

    @property
    def tested(self) -> bool:
        """Whether this rank can take the rounding test; where one cannot, none does.

        What it depends on is the same on every rank then, or goes over the one link: the other
        limits follow from a state, and leaves outside of the link are of this rank alone.
        """
        call, ranks = self.call, self.exchange.ranks
        if call.plan.reproducible and (call.plan.record or ranks.replicas is not None):
            return False  # sums do not tell replicas that differ, nor the norm of each leaf
        backend, parts = call.backend, [part for part in self.parts if part.joint]
        return (
            call.host
            and self.limited
            and call.plan.order == 2
            and call.plan.joint
            and ranks.cuts is None
            and len(ranks.links) == len(ranks.common) == 1
            and len(parts) <= rounding.PARTS
            and kind_of(call.acc_dtype).name == "float64"
            and batch.narrow(self.arrays, "float64")
            and rounding.known_chain(backend.chain or backend.block)
        )

    @property
    def access(self) -> Access:
        """Return what it costs to read a scalar of a leaf."""
        return "free" if self.m is host_scalars else self.call.backend.access(self.arrays[0])

    @property
    def first(self) -> Exchange:
        """Return what carries the first vector: floats, where a rank begins with a sum of peaks."""
        reads = self.probing and self.access != "never"
        return self.exchange.by_host() if reads else self.exchange

    @property
    def readable(self) -> bool:
        """Whether the head of a vector can be read: for nothing, or where it has been asked for."""
        return self.digest is not None and self.m is host_scalars


def by_sum(plan: Plan) -> bool:
    """Tell whether the first vector of a call is added up."""
    return plan.order in (1, 2) and not plan.reproducible


def way_of(call: StaticArgs, inputs: Inputs, *, held: bool = True) -> Way:
    """Return how the norms of a call are found, and what has to be said of it."""
    ranks, arrays, backend = call.plan.ranks, inputs.arrays, call.backend
    assert ranks is not None, "there are others"
    # A library that compiles what it is given, or has no float64 here, leaves the vectors to the
    # host: its program is split where they go.
    outside = not ranks.inside and (
        backend.run is not kernels.run or kind_of(call.acc_dtype).name != "float64"
    )
    m = host_scalars if outside else call.m
    digest = None if ranks.inside else _digest(call, inputs)
    kinds = batch.kinds(arrays) if held else frozenset()
    exchange = Exchange(call, ranks, arrays[0], m)
    inner = call._replace(plan=call.plan._replace(ranks=None, limits=None))
    limited = call.plan.limits is None
    given, order, exact = ranks.given, call.plan.order, call.plan.reproducible
    probing = _links.probing(given, order, exact)
    return Way(inner, _parts(call), exchange, arrays, kinds, digest, limited, probing)


def _digest(call: StaticArgs, inputs: Inputs) -> int:
    plan = call.plan
    assert plan.ranks is not None, "there are others"
    numbers = [x if isinstance(x, float) else x is None for x in (inputs.bound, inputs.loss_scale)]
    flags = plan.order, plan.strict, plan.nonfinite, plan.reproducible
    return _messages.digest(*plan.ranks.facts, *flags, *numbers)


def _parts(call: StaticArgs) -> list[Part]:
    """Return what is reduced of each group, by links and replicas: the same groups everywhere."""
    plan, ranks = call.plan, call.plan.ranks
    assert ranks is not None, "there are others"
    count = len(call.groups[0]) if plan.joint else len(call.groups)
    others = plan.others(count) if plan.record else []
    groups = [(list(group), plan.joint) for group in call.groups]
    groups += [(list(group), not plan.joint) for group in others]
    if ranks.cuts is None and ranks.replicas is None:
        nobody: frozenset[int] = frozenset()  # Dynamo calls no subscripted type (PyTorch 2.13)
        alike = {True: ranks.common, False: nobody}
        return [Part(g, joint, alike[joint], 1, tuple(x)) for g, (x, joint) in enumerate(groups)]
    parts = []
    for position, (group, joint) in enumerate(groups):
        found: dict[tuple[frozenset[int], int], list[int]] = {}
        if joint and ranks.common:
            found[ranks.common, 1] = []  # on every rank, whatever it holds
        for i in group:
            often = ranks.times(i) if joint else 1
            key = ranks.cut(i) | ranks.common if joint else ranks.cut(i)
            if often:
                found.setdefault((key, often), []).append(i)
        if not found:
            found[frozenset(), 1] = []
        parts += [Part(position, joint, *at, tuple(places)) for at, places in found.items()]
    return parts


def widths_of(way: Way) -> list[int]:
    """Return how many numbers the sum of each part is.

    What dtypes other ranks hold is not known yet; but the parts of one leaf have one, and so has
    all that a program holds which runs on every rank.
    """
    name, found = kind_of(way.call.acc_dtype).name, []
    for part in way.parts:
        group = sorted(i for other in way.parts if other.group == part.group for i in other.places)
        unknown = part.joint and way.digest is not None
        narrow = not unknown and batch.narrow(batch.chosen(way.arrays, group), name)
        found.append(1 if narrow else 3)
    return found
