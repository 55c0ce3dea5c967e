"""The functions with an underscore: they write what their twins return, or nothing at all."""

from __future__ import annotations

import math
from typing import NamedTuple

from agclip.testing.harness.calls import CLIPS, Clip, all_numbers, leaves, sample
from agclip.testing.harness.check import (
    Check,
    error_of,
    expect,
    expect_same,
    over,
    require_writable,
)
from agclip.testing.harness.library import Library


def in_place_equals_functional(library: Library, clip: Clip) -> None:
    """In place the leaves take the values that the function returns, bit by bit."""
    require_writable(library)
    wanted = all_numbers(library, library.call(clip.tight, sample(library)))
    tree = sample(library)
    held = leaves(tree)
    returned = library.call(clip.tight_, tree)
    got = all_numbers(library, tree)
    expect_same(got, wanted, f"what {clip.name} writes")
    kept = all(a is b for a, b in zip(leaves(tree), held, strict=True))
    expect(kept, f"{clip.name} in place must keep the leaves in the tree; got other ones")
    given_back = library.wrap is not None or returned is tree
    expect(given_back, f"{clip.name} in place must return its argument; got another object")


def in_place_within_the_bound(library: Library, clip: Clip) -> None:
    """In place nothing changes within the bound, also of complex numbers."""
    require_writable(library)
    tree = leaves(sample(library))
    if library.has("complex64") and clip.name != "clip_by_value":
        tree.append(library.array([complex(-0.0, -1.0), complex(-2.0, -0.0)], "complex64"))
    before = all_numbers(library, tree)
    library.call(clip.loose_, tree)
    after = all_numbers(library, tree)
    expect_same(after, before, f"what {clip.name} leaves in place")


def in_place_once_for_shared_leaves(library: Library, clip: Clip) -> None:
    """An array that the tree holds twice is counted twice, and scaled once."""
    require_writable(library)
    library.require(library.wrap is None, "passes copies to compiled code")
    values = [3.0, -4.0]
    one = library.array(values, "float32")
    library.call(clip.tight_, [one, [one]])
    twins = [library.array(values, "float32") for _ in range(2)]
    wanted = all_numbers(library, library.call(clip.tight, twins)[0])
    got = all_numbers(library, one)
    expect_same(got, wanted, f"what {clip.name} writes into a leaf held twice")


def in_place_through_views(library: Library, clip: Clip) -> None:
    """A view is written, and what it does not show stays."""
    require_writable(library)
    library.require(library.wrap is None, "passes copies to compiled code")
    base = library.array([1.5, 9.0, -2.0, 9.0, 0.25, 9.0], "float32", (3, 2))
    view = base[:, 0]
    wanted = all_numbers(library, library.call(clip.tight, [base[:, 0]]))
    library.call(clip.tight_, [view])
    got = all_numbers(library, view)
    expect_same(got, wanted, f"what {clip.name} writes into a view")
    expect_same(all_numbers(library, base)[1::2], [9.0] * 3, f"what {clip.name} leaves beside it")


def immutable_arrays_are_refused(library: Library, clip: Clip) -> None:
    """In place, arrays that cannot be written are a TypeError that names the first one."""
    library.require(not library.writable, "has arrays that can be written")
    tree = sample(library)
    before = all_numbers(library, tree)
    found = error_of(lambda: library.call(clip.tight_, tree))
    said = "must hold arrays that can be written in place" in found
    named = said and found.startswith("TypeError") and "['w']" in found
    expect(named, f"{clip.name} in place must raise a TypeError that names ['w']; got {found}")
    expect_same(all_numbers(library, tree), before, f"what {clip.name} leaves as it was")


def failure_writes_nothing(library: Library, case: _Failure) -> None:
    """In place, a call that fails for its last leaf has not written the first one."""
    require_writable(library)
    library.require(library.wrap is None, "cannot raise from compiled code")
    bad = library.array([1, 2], "int32")
    if case.wrong == "not finite":
        bad = library.array([1.0, math.nan], "float32")
    tree = {"first": library.array([3.0, -4.0], "float32"), "last": [bad]}
    before = all_numbers(library, tree)
    found = error_of(lambda: case.clip.refused(tree))
    kind = found.partition(":")[0]
    refused = kind in ("TypeError", "ValueError", "FloatingPointError")
    expect(refused, f"{case.name} must be refused in place; got {found}")
    expect_same(all_numbers(library, tree), before, f"the tree after {kind} of {case.name}")


class _Failure(NamedTuple):
    """A clip, and what is wrong with the last leaf."""

    clip: Clip
    wrong: str

    @property
    def name(self) -> str:
        return f"{self.clip.name}, {self.wrong}"


def read_only_leaves_are_found_first(library: Library, clip: Clip) -> None:
    """In place, a leaf that turns out read-only is a TypeError before any other is written."""
    require_writable(library)
    library.require(library.wrap is None, "cannot raise from compiled code")
    first = library.array([3.0, -4.0], "float32")
    spread = library.xp.broadcast_to(library.array([2.0], "float32"), (4,))
    before = all_numbers(library, [first, spread])
    wanted = all_numbers(library, library.call(clip.tight, [first, spread]))
    found = error_of(lambda: clip.tight_([first, spread]))
    after = all_numbers(library, [first, spread])
    due = wanted if found == "no error" else before
    expect_same(after, due, f"the tree after {clip.name} with {found}")
    expected = found.startswith(("TypeError", "no error"))
    expect(expected, f"{clip.name} in place must raise a TypeError; got {found}")


def checks() -> list[Check]:
    """Return the checks of this file."""
    failures = [_Failure(clip, wrong) for clip in CLIPS for wrong in ("not finite", "integers")]
    return [
        *over(
            CLIPS,
            in_place_equals_functional,
            in_place_within_the_bound,
            in_place_once_for_shared_leaves,
            in_place_through_views,
            immutable_arrays_are_refused,
            read_only_leaves_are_found_first,
        ),
        *over(failures, failure_writes_nothing),
    ]
