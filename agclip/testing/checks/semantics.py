"""What every clip keeps: values within the bound, containers, dtypes, devices, signs, inputs."""

from __future__ import annotations

from typing import NamedTuple

from agclip._backends.dtypes import kind_of
from agclip._typing import Array
from agclip.testing.harness.calls import CLIPS, Clip, all_numbers, leaves, outline, sample
from agclip.testing.harness.check import Check, expect, expect_same, over, plain
from agclip.testing.harness.formats import FORMATS
from agclip.testing.harness.library import Library

DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")


class _Kind(NamedTuple):
    """A clip and a dtype."""

    clip: Clip
    dtype: str

    @property
    def name(self) -> str:
        return f"{self.clip.name}, {self.dtype}"


def arrays_belong_to_the_backend(library: Library) -> None:
    """The backend is the one that agclip finds for the library's arrays."""
    found = library.record.name
    expect(found == library.backend, f"arrays must belong to {library.backend}; got {found}")


def unclipped_is_bit_identical(library: Library, clip: Clip) -> None:
    """Within the bound nothing changes, signs of zeros and subnormal numbers included."""
    tiny = FORMATS["float32"].smallest_subnormal
    tree = [*leaves(sample(library)), library.array([-0.0, tiny, -tiny, 0.5], "float32")]
    before = all_numbers(library, tree)
    after = all_numbers(library, library.call(clip.loose, tree))
    expect_same(after, before, f"what {clip.name} returns")


def unclipped_is_the_same_object(library: Library, clip: Clip) -> None:
    """Within the bound eager libraries get the very same objects back: nothing is copied."""
    library.require(library.identity_is_object, "copies what it does not clip")
    library.require("value" not in clip.name, "clips entry by entry")
    tree = sample(library)
    result = library.call(clip.loose, tree)
    kept = [a is b for a, b in zip(leaves(tree), leaves(result), strict=True)]
    expect(all(kept), f"{clip.name} must return the leaves themselves; got copies, by leaf: {kept}")


def containers_are_kept(library: Library, clip: Clip) -> None:
    """The tree comes back in the same containers, dicts in their order, None where None was."""
    tree = sample(library)
    wanted = outline(tree)
    got = outline(library.call(clip.tight, tree))
    expect(got == wanted, f"{clip.name} must return {wanted}; got {got}")


def input_is_untouched(library: Library, clip: Clip) -> None:
    """A function without the underscore writes nothing into its argument."""
    tree = sample(library)
    before = all_numbers(library, tree)
    result = all_numbers(library, library.call(clip.tight, tree))
    after = all_numbers(library, tree)
    expect_same(after, before, f"the argument of {clip.name}")
    expect(result != before, f"{clip.name} must clip {before}; got it back")


def zeros_are_kept(library: Library, clip: Clip) -> None:
    """Leaves of zeros come back with their signs, and never as NaN."""
    tree = [library.array([0.0, -0.0], "float32"), library.array([-0.0], "float32", ())]
    after = all_numbers(library, library.call(clip.tight, tree))
    expect_same(after, [0.0, -0.0, -0.0], f"what {clip.name} returns")


def leaves_keep_their_kind(library: Library, case: _Kind) -> None:
    """Every leaf keeps its dtype, shape, device and class."""
    tree = sample(library, case.dtype)
    clipped = library.call(case.clip.tight, tree)
    for before, after in zip(leaves(tree), leaves(clipped), strict=True):
        expect_like(library, case.name, before, after)


def expect_like(library: Library, what: str, before: Array, after: Array) -> None:
    """Check that one array is of the same kind as another."""
    expect(
        type(after) is type(before),
        f"{what} must return {type(before).__name__}; got {type(after).__name__}",
    )
    wanted, got = kind_of(before.dtype).name, kind_of(after.dtype).name
    expect(got == wanted, f"{what} must keep the dtype {wanted}; got {got}")
    shapes = tuple(before.shape), tuple(after.shape)
    expect(shapes[0] == shapes[1], f"{what} must keep the shape {shapes[0]}; got {shapes[1]}")
    devices = library.record.device(before), library.record.device(after)
    expect(devices[0] == devices[1], f"{what} must keep the device {devices[0]}; got {devices[1]}")


def leaves_that_are_views(library: Library, clip: Clip) -> None:
    """A leaf that is a view with strides is clipped like a copy of it."""
    base = library.array([1.5, 9.0, -2.0, 9.0, 0.25, 9.0], "float32", (3, 2))
    copied = library.array([1.5, -2.0, 0.25], "float32")
    viewed = all_numbers(library, library.call(clip.tight, [base[:, 0]]))
    wanted = all_numbers(library, library.call(clip.tight, [copied]))
    # Sums over a view may be formed in another order.
    close = all(abs(a - b) <= 2.0**-20 * abs(b) for a, b in zip(viewed, wanted, strict=True))
    expect(close, f"{clip.name} of a column must be {wanted}; got {viewed}")


def checks() -> list[Check]:
    """Return the checks of this file."""
    each = over(
        CLIPS,
        unclipped_is_bit_identical,
        unclipped_is_the_same_object,
        containers_are_kept,
        input_is_untouched,
        zeros_are_kept,
        leaves_that_are_views,
    )
    kinds = [_Kind(clip, dtype) for clip in CLIPS for dtype in _dtypes(clip)]
    return [*plain(arrays_belong_to_the_backend), *each, *over(kinds, leaves_keep_their_kind)]


def _dtypes(clip: Clip) -> tuple[str, ...]:
    """All dtypes for one clip of each way of applying a coefficient, two for the others."""
    if clip.name == "clip_by_value":
        return DTYPES[:4]
    return DTYPES if clip.name in ("clip_by_norm", "clip_by_global_norm") else DTYPES[1:3]
