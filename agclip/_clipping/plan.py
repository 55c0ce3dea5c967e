"""The static part of a call: what it does apart from its numbers, and what its scalars are."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from agclip._backends import batch, host_scalars, kernels
from agclip._backends.backend import Backend
from agclip._backends.dtypes import Kind
from agclip._numerics.ranges import Norm
from agclip._trees.leaves import Leaves
from agclip._typing import Array, Axes, DType, Namespace, NonFinite, Scalar
from agclip.distributed._ranks import Ranks


class Limits(Protocol):
    """How limits follow from norms: hashable, and equal where two calls do the same.

    Where scalars are floats (`StaticArgs.host`) they may be called outside of `Backend.run`: what
    they then do with arrays they do within `Backend.context`.

    Two kinds, both of one group, may be left to a backend (see `_backends.fused.Terms`): one with
    an attribute `eps` is the limit c·n / (n + eps), c where n is 0 or not finite; and one with a
    method `of_norm`, `(call, norm, inputs)` → the limit and what the program returns besides, needs
    no more than the norm's value, as an array.
    """

    def __call__(
        self, call: StaticArgs, norms: Sequence[Norm], inputs: Inputs, /
    ) -> tuple[list[Scalar], Any]:
        """Return the limit of each group, and what the program returns besides."""
        ...


class Plan(NamedTuple):
    """What a clip does, apart from its numbers."""

    joint: bool = False
    """One norm over all leaves; otherwise each leaf on its own."""
    order: float = 2.0
    axes: tuple[Axes, ...] | None = None
    """For each leaf the axes of its norms; None for one norm a group."""
    weights: tuple[Scalar, ...] | None = None
    """For each leaf what the bound is multiplied by."""
    strict: bool = False
    nonfinite: NonFinite = "propagate"
    reproducible: bool = False
    record: bool = False
    """Whether a record of what has been done is wanted: see `_clipping.record`."""
    limits: Limits | None = None
    """How the limits follow from the norms; None where each is the bound times its weight."""
    per_example: bool = False
    """The leading axis of every leaf is the example: each is clipped, and their sum is returned."""
    given: str | None = None
    """The argument of a norm that the caller gives of more than the leaves; None for `use_norm`,
    which is of them and measured again where it is infinite."""
    ranks: Ranks | None = None
    """Where the other parts of the leaves are; None if they are whole."""

    def others(self, count: int) -> list[Sequence[int]]:
        """Return the groups whose norms are wanted for the record alone."""
        if self.axes is not None or (count == 1 and self.ranks is None):
            return []
        return [[i] for i in range(count)] if self.joint else [list(range(count))]


class StaticArgs(NamedTuple):
    """The hashable part of a program's arguments: a backend's `run` may key a cache on it."""

    backend: Backend
    plan: Plan
    groups: Sequence[range]
    """The positions of the leaves of each group."""
    m: Namespace
    """What scalar arithmetic is written in: `host_scalars`, or the library's namespace."""
    acc_dtype: DType
    """What sums over the first leaf are formed in."""
    host: bool = False
    """Whether all values can be read for nothing: scalars are floats then, else 0-d arrays."""
    tested: bool = False
    """Whether reproducible norms along axes may be left to the rounding test."""
    sharded: bool = False
    """Whether the leaves are parts of arrays: the caller alone knows the norm."""
    inplace: bool = False
    """Whether the program ends with the decisions: the leaves are overwritten after it."""
    simple: bool = False
    """Whether `Backend.fused` may be asked: see there."""
    kinds: frozenset[Kind] | None = None
    """The kinds of dtype that any rank holds, where that is known; None for those of the leaves."""


class Inputs(NamedTuple):
    """The arrays and numbers of a call: a backend's `run` may trace them."""

    arrays: Sequence[Array]
    bound: Scalar = float("inf")
    loss_scale: Scalar | None = None
    """What the leaves come in multiplied by; None for one."""
    use_norm: Scalar | None = None
    """The norm of the one group, if the caller has it."""
    extra: Any = ()
    """What `Plan.limits` looks at besides: parameters, or the state of a rule."""
    merged: Sequence[Array] | None = None
    """What is measured in the places of the arrays, where some are stored values of which several
    are of one place; None for the arrays themselves. What differs is of the accumulation dtype, so
    that no norm of it is left to the rounding test, and narrower than that by its range."""


def static_args(leaves: Leaves, plan: Plan, inputs: Inputs, *, inplace: bool) -> StaticArgs:
    """Return the static part of a call on leaves: here alone it is decided what scalars are.

    Raises:
        ValueError: If the norm of an array cannot be told from what is here of it, nor is given.
    """
    backend, loss_scale, use_norm = leaves.backend, inputs.loss_scale, inputs.use_norm
    free = (
        type(inputs.bound) is float
        and (loss_scale is None or type(loss_scale) is float)
        and (use_norm is None or type(use_norm) is float)
        and leaves.access == "free"
    )
    along, count = plan.axes is not None, len(inputs.arrays)
    host = free and not along and not plan.per_example
    sharded = use_norm is not None and (plan.given is not None or plan.ranks is not None)
    if backend.partial is not kernels.nothing:
        if use_norm is None and plan.ranks is None:
            leaves.require_whole()
        else:
            sharded = sharded or backend.partial(inputs.arrays) is not None
    if leaves.cuts is not None and (plan.ranks is None or plan.per_example):
        leaves.require_uncut()
    # Compiled code would not look into a cache, and warns of it (PyTorch 2.11).
    singles = _singles if leaves.access == "never" else _known_singles
    acc_dtype = backend.acc_dtype(backend.xp, inputs.arrays[0])
    # Where a device has no float64, but shares memory with one that has, other leaves may be of it.
    if acc_dtype != backend.xp.float64 and batch.double(inputs.arrays):
        acc_dtype = backend.xp.float64
    return StaticArgs(
        backend,
        plan,
        (range(count),) if plan.joint else singles(count),
        host_scalars if host else backend.xp,
        acc_dtype,
        host,
        # Limits that follow from other norms are not tested with the norm.
        tested=free and along and plan.reproducible and not plan.record and plan.limits is None,
        sharded=sharded,
        # Arrays of another library are clipped as copies, and written back.
        inplace=inplace and leaves.originals is None,
        simple=leaves.access == "sync"
        and inputs.merged is None
        and (use_norm is None or (plan.given is not None and loss_scale is None))
        and _simple(plan),
    )


def _singles(count: int) -> tuple[range, ...]:
    return tuple([range(i, i + 1) for i in range(count)])


_known_singles = functools.lru_cache(maxsize=64)(_singles)  # every step asks for the same leaves


def _simple(plan: Plan) -> bool:
    """Tell whether a plan is one that `Backend.fused` has the terms for."""
    return (
        plan.axes is None
        and not plan.per_example
        and (plan.limits is None or hasattr(plan.limits, "eps") or hasattr(plan.limits, "of_norm"))
        and plan.ranks is None
        and plan.nonfinite != "error"
        and plan.order in (1.0, 2.0, math.inf)
        # The largest of all elements is the same in whatever order they are looked at.
        and not (plan.reproducible and plan.order != math.inf)
    )
