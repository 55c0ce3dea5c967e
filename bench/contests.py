"""Contests: contenders that do the same work, and the one that all are compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import pytest

from bench.accelerate import Around
from bench.arrays import as_numpy
from bench.bounds import Bounds
from bench.workloads import Gradients, Workload

Leaves = list[Any]
Clip = Callable[[], Leaves]
Build = Callable[[Gradients, Bounds], Clip]

ROOF = "roof"
"""The name of the contender that clips nothing: it only moves the memory that must be moved."""

_LIBRARIES = {"torch": "torch", "numpy": "numpy", "jax": "jax", "optax": "jax", "mlx": "mlx"}
"""By a word in the name; all others clip arrays of TensorFlow."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of doing the work.

    Attributes:
        name: Its name in ids and tables; those of ours begin with "agclip".
        build: `build(gradients, bounds)` → a call without arguments that clips copies of the
            gradients and returns the clipped leaves.
        against: The names of contenders it is compared with besides the reference.
        around: What its calls run within.
    """

    name: str
    build: Build
    against: tuple[str, ...] = ()
    around: Around = contextlib.nullcontext

    @property
    def ours(self) -> bool:
        """Tell whether it is agclip."""
        return self.name.startswith("agclip")

    @property
    def compiled(self) -> bool:
        """Tell whether it is part of a function that the caller compiles."""
        return self.name.endswith(("-jit", "-function"))

    @property
    def library(self) -> str:
        """Return the library whose arrays it clips."""
        return next((lib for word, lib in _LIBRARIES.items() if word in self.name), "tensorflow")


@dataclass(frozen=True, slots=True)
class Contest:
    """A kind of work.

    Attributes:
        family: The contests it is reported with.
        name: Its name in test ids.
        title: Its title in tables.
        contenders: The contenders; all are compared with the first.
        first_bound: `first_bound(gradients)` → the bound of the first call.
        check: `check(clipped, gradients, bound)` → whether the leaves are as they should be.
        clips: Whether there is anything to clip.
        axis: "leaves" or "elements" if that is all its workloads differ in.
        memory: The name of a workload for which peak memory is reported too.
    """

    family: str
    name: str
    title: str
    contenders: tuple[Contender, ...]
    first_bound: Callable[[Gradients], float]
    check: Callable[[Leaves, Gradients, float], bool]
    clips: bool = True
    axis: str = ""
    memory: str = ""

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
        self._contenders = {contender.name: contender for contender in contest.contenders}
        for name, contender in self._contenders.items():
            bounds = Bounds(first, clips=contest.clips)
            self._bounds[name] = bounds
            with self.around(name):
                self.calls[name] = contender.build(self._gradients, bounds)

    @contextlib.contextmanager
    def around(self, name: str) -> Iterator[None]:
        """Enter what a contender's calls run within; JAX has float64 leaves only if told so."""
        with jax.enable_x64(self.workload.dtype == "float64"), self._contenders[name].around():
            yield

    def host_names(self) -> list[str]:
        """Return the names of the contenders whose memory can be counted."""
        contenders = self._contenders.values()
        return [c.name for c in contenders if c.library in ("torch", "numpy") and c.name != ROOF]

    def right(self, name: str, clipped: Leaves) -> bool:
        """Tell whether a contender's last call did its work."""
        if name == ROOF:
            return True
        found = jax.tree.map(as_numpy, clipped)
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
