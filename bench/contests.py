"""Contests: contenders that do the same work, and the one that all are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest

from bench.bounds import Bounds
from bench.workloads import Gradients, Workload

Leaves = list[Any]
Clip = Callable[[], Leaves]
Build = Callable[[Gradients, Bounds], Clip]

ROOF = "roof"
"""The name of the contender that clips nothing: it only moves the memory that must be moved."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of doing the work.

    Attributes:
        name: Its name in ids and tables; those of ours begin with "agclip".
        build: `build(gradients, bounds)` → a call without arguments that clips copies of the
            gradients and returns the clipped leaves.
        against: The names of contenders it is compared with besides the reference.
    """

    name: str
    build: Build
    against: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contest:
    """A kind of work.

    Attributes:
        name: Its name in test ids.
        title: Its title in tables.
        contenders: The contenders; all are compared with the first.
        first_bound: `first_bound(gradients)` → the bound of the first call.
        check: `check(clipped, gradients, bound)` → whether the leaves are as they should be.
        clips: Whether there is anything to clip.
        scaling: Whether its workloads differ in the number of leaves only: then the cost of a leaf
            is reported, and nothing plotted.
    """

    name: str
    title: str
    contenders: tuple[Contender, ...]
    first_bound: Callable[[Gradients], float]
    check: Callable[[Leaves, Gradients, float], bool]
    clips: bool = True
    scaling: bool = False

    @property
    def reference(self) -> str:
        """Return the name of the contender that all are compared with."""
        return self.contenders[0].name


class Match:
    """A contest on a workload, ready to run."""

    def __init__(self, contest: Contest, workload: Workload) -> None:
        self.contest = contest
        self.workload = workload
        self._gradients = workload.gradients()
        first = contest.first_bound(self._gradients)
        self.calls: dict[str, Clip] = {}
        self._bounds: dict[str, Bounds] = {}
        for contender in contest.contenders:
            bounds = Bounds(first, clips=contest.clips)
            self._bounds[contender.name] = bounds
            self.calls[contender.name] = contender.build(self._gradients, bounds)

    def right(self, name: str, clipped: Leaves) -> bool:
        """Tell whether a contender's last call did its work."""
        if name == ROOF:
            return True
        found = jax.tree.map(np.asarray, clipped)
        return self.contest.check(found, self._gradients, self._bounds[name].last)


def enter(
    contests: Sequence[Contest], workloads: Sequence[Workload]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test for every contest, workload and contender; the contenders are of one kind."""
    names = [contender.name for contender in contests[0].contenders]
    matches = [
        pytest.param((c, w), id=f"{c.name}-{w.name}", marks=w.marks)
        for c in contests
        for w in workloads
    ]
    each = pytest.mark.parametrize("name", names)
    arena = pytest.mark.parametrize("match", matches, indirect=True, scope="module")
    return lambda test: arena(each(test))
