"""Clipping a file: one pass that measures, one that clips and writes, an array at a time."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agclip
from agclip._typing import Array
from agclip.cli.command import CommandError
from agclip.cli.command.output import replacing
from agclip.cli.command.progress import Report
from agclip.cli.files.measure import Measured, combined, is_measured, measure
from agclip.cli.files.named import ArrayFile
from agclip.cli.files.readers import Leaf
from agclip.cli.files.readers.transfer import to_backend, to_host, without_entries
from agclip.cli.files.rules import FILE_RULES, Call, FileRule, together

Clip = Callable[[int, Any], Array]
"""Takes the place of an array in the file, and the array; returns it clipped, in the backend."""

SHOWN = 3
"""Names that a message lists before it says "and 7 more"."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What clipping a file did.

    Attributes:
        before: Norm and non-finite elements of the arrays that were read.
        after: The same of what was written.
        arrays: Number of arrays that the rule applies to.
        changed: Number of those that changed.
        copied: The arrays that are not clipped, and were copied.
    """

    before: Measured
    after: Measured
    arrays: int
    changed: int
    copied: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A file to clip, and where to.

    Attributes:
        file: The file of gradients.
        params: The file of parameters, where the rule compares with them.
        backend: What computes.
        output: The new file.
        order: The order of the norms that are told.
        report: Called after every array, in both passes.
    """

    file: ArrayFile
    params: ArrayFile | None
    backend: agclip.Backend
    output: Path
    order: float
    report: Report

    def floats(self) -> list[int]:
        """Return the places of the arrays that a rule applies to."""
        return [i for i, leaf in enumerate(self.file.leaves) if is_measured(leaf.dtype)]

    def gradients(self) -> dict[str, Array]:
        """Read all arrays that a rule applies to, for the backend, by name."""
        leaves = self.file.leaves
        names = {place: leaves[place].name for place in self.floats()}
        return {name: self.moved(name, self.file.read(place)) for place, name in names.items()}

    def beside(self) -> list[Array]:
        """Return an array without elements in each dtype that a rule applies to."""
        dtypes = dict.fromkeys(self.file.leaves[place].dtype for place in self.floats())
        return [self.moved(dtype, without_entries(dtype)) for dtype in dtypes]

    def parameter(self, name: str) -> Array | None:
        """Read the array of a name from the file of parameters, for the backend."""
        if self.params is None:
            return None
        for place, leaf in enumerate(self.params.leaves):
            if leaf.name == name:
                return self.moved(name, self.params.read(place))
        msg = (
            f"`--params` must hold an array for each of IN; got none called {name!r} in "
            f"{str(self.params.path)!r}. Give the file of the same model."
        )
        raise CommandError(msg)

    def moved(self, name: str, array: Any) -> Array:
        """Return an array of a file as one of the backend."""
        try:
            return to_backend(array, self.backend)
        except TypeError as error:
            msg = f"`--backend` must take the array {name!r}; got: {error}."
            raise CommandError(msg) from error


def measure_file(job: Job) -> Measured:
    """Measure all arrays together, an array at a time."""
    parts = []
    for done, place in enumerate(job.floats(), start=1):
        parts.append(measure(job.file.read(place), job.order))
        job.report(done, "measuring")
    return combined(parts, job.order)


def require_finite(job: Job) -> None:
    """Refuse a file with NaN or infinities; called when it is known to have some.

    Raises:
        CommandError: It names the arrays.
    """
    found = {}
    for place in job.floats():
        part = measure(job.file.read(place), math.inf)
        if not part.finite:
            found[job.file.leaves[place].name] = part
    shown = [f"{name!r} ({part.nan} NaN, {part.inf} inf)" for name, part in found.items()]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    msg = (
        f"`IN` must hold finite numbers; got {', '.join(shown[:SHOWN])}{more}. Choose what becomes "
        f"of them: --nonfinite propagate, zero or skip."
    )
    raise CommandError(msg)


def by_rule(job: Job, rule: FileRule, args: Namespace, before: Measured) -> Clip:
    """Return what clips one array by a rule that sees it alone.

    Where the numbers are finite and their norm is not, arrays that have to know it are clipped
    together.
    """
    if rule is FILE_RULES["global_norm"] and before.overflown:
        return _together(job, args)
    norm = before.norm if before.finite else math.nan
    beside = job.beside() if args.strict or args.settings.strict else []

    def clip(place: int, array: Any) -> Array:
        name = job.file.leaves[place].name
        call = Call(args=args, norm=norm, beside=beside, param=job.parameter(name))
        gradient = job.moved(name, array)
        with _explained(name):
            return rule.clip(gradient, call)

    return clip


def _together(job: Job, args: Namespace) -> Clip:
    """Clip the whole file at once by its global norm; return what looks it up."""
    grads = job.gradients()
    call = Call(args=args, norm=None, beside=(), param=None)
    with _explained("IN"):
        clipped = dict(zip(grads, together(list(grads.values()), call), strict=True))
    return lambda place, _: clipped[job.file.leaves[place].name]


def by_clipper(job: Job, clipper: agclip.Clipper) -> Clip:
    """Clip the whole file at once, as a chain or a group may ask for; return what looks it up."""
    names = {place: job.file.leaves[place].name for place in job.floats()}
    grads = job.gradients()
    params = None if job.params is None else {name: job.parameter(name) for name in grads}
    with _explained("IN"):
        clipped = clipper(grads, params)[0]
    return lambda place, _: clipped[names[place]]


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what a clip says of an array into an error of the command line."""
    try:
        yield
    except (TypeError, ValueError, FloatingPointError, NotImplementedError) as error:
        msg = f"{name!r} cannot be clipped: {error}"
        raise CommandError(msg) from error


def write_clipped(job: Job, clip: Clip, before: Measured) -> Outcome:
    """Write the file, an array at a time, and put it in place when it is complete.

    Args:
        job: The file, and where to.
        clip: What clips.
        before: What `measure_file` found.

    Raises:
        CommandError: It could not be written, or an array could not be clipped. The output is then
            as it was before.
    """
    floats = set(job.floats())
    parts, changed = [], 0

    def leaf(place: int) -> Any:
        nonlocal changed
        if place not in floats:
            return None
        array = job.file.read(place)
        new = to_host(clip(place, array), array.dtype, job.backend)
        changed += not bool((new == array).all())
        parts.append(measure(new, job.order))
        job.report(len(parts), "writing")
        return new

    example = f"FILE{job.output.suffix}"
    with replacing(job.output, "file", example, like=job.file.path) as file:
        job.file.write(file, leaf)
    leaves = job.file.leaves
    copied = tuple(leaf for place, leaf in enumerate(leaves) if place not in floats)
    return Outcome(before, combined(parts, job.order), len(floats), changed, copied)
