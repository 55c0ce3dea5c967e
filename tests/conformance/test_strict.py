"""`strict=True` in exact arithmetic: never above the bound, and a second clip changes no bit."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agclip
import arrays
from thinned import thinned

SINGLE_AND_DOUBLE = {
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
    "complex64": ("complex64", "float32"),
    "both": ("float32", "float64"),
}
WITH_HALVES = {
    "float16": ("float16", "float16"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "float16 and float64": ("float16", "float64"),
    "bfloat16 and float32": ("bfloat16", "float32"),
}


def size(leaf, order=2):
    """Return the exact sum of |x|**order of a leaf of NumPy; the largest |x| for order inf."""
    parts = (leaf.real, leaf.imag) if leaf.dtype.kind == "c" else (leaf,)
    entries = [abs(Fraction(x.item())) for part in parts for x in part.astype("float64").ravel()]
    return max(entries) if order == math.inf else sum(x**order for x in entries)


def in_all(leaves, bound, order=2):
    sizes = [size(leaf, order) for leaf in leaves]
    return max(sizes) > bound if order == math.inf else sum(sizes) > Fraction(bound) ** order


def in_each(leaves, bound, _=2):
    return any(size(leaf) > Fraction(bound) ** 2 for leaf in leaves)


def in_rows(leaves, bound, _=2):
    return any(size(row) > Fraction(bound) ** 2 for leaf in leaves for row in leaf)


def by_rms(leaves, bound, _=2):
    return any(size(leaf) > Fraction(bound) ** 2 * leaf.size for leaf in leaves)


def by_average(leaves, bound, _=2):
    return any(size(leaf) > (Fraction(bound) * leaf.size) ** 2 for leaf in leaves)


def adaptive(t, bound, **options):
    # Parameters whose units have norm 1: one entry of every row is one.
    params = [leaf * 0 for leaf in t]
    for leaf in params:
        leaf[:, 0] = 1.0
    return agclip.adaptive_grad_clip(t, params, bound, unit_axes="out_in", **options)


def of_one_example(t, bound, **options):
    total, _ = agclip.clip_per_example([leaf[None] for leaf in t], bound, **options)
    return list(total)


# Each clip, and what tells exactly whether leaves exceed a bound.
CLIPS = {
    "global": (lambda t, c, **options: agclip.clip_by_global_norm(t, c, **options)[0], in_all, 2),
    "global, ord 1": (
        lambda t, c, **options: agclip.clip_by_global_norm(t, c, ord=1, **options)[0],
        in_all,
        1,
    ),
    "global, ord inf": (
        lambda t, c, **options: agclip.clip_by_global_norm(t, c, ord=math.inf, **options)[0],
        in_all,
        math.inf,
    ),
    "leaf": (agclip.clip_by_norm, in_each, 2),
    "axes": (lambda t, c, **options: agclip.clip_by_norm(t, c, axes=1, **options), in_rows, 2),
    "rms": (agclip.clip_by_rms, by_rms, 2),
    "average": (agclip.clip_by_average_norm, by_average, 2),
    "adaptive": (adaptive, in_rows, 2),
    "per example": (of_one_example, in_all, 2),
}
REAL_ONLY = ("global, ord 1", "global, ord inf")  # the parts of complex numbers would not do


def drawn(names, seed, shape):
    """Return leaves of NumPy, and a bound in units of their norm that keeps all entries normal."""
    rng = np.random.default_rng([seed, len(names[0])])
    leaves = [random(rng, n, shape or rng.integers(1, 5, 2), seed) for n in names]
    return leaves, rng.uniform(0.02, 1.0)


def random(rng, dtype, shape, seed):
    """Return equal numbers, or numbers of many sizes."""
    draw = (
        (lambda: np.full(shape, rng.uniform(1, 2)))
        if seed % 3 == 0
        else (lambda: rng.choice([-1, 1], shape) * 2.0 ** rng.uniform(-6, 1, shape))
    )
    if dtype.startswith("complex"):
        return (draw() + 1j * draw()).astype(dtype)
    if dtype == "bfloat16":
        return draw().astype(pytest.importorskip("ml_dtypes", reason="no ml_dtypes").bfloat16)
    return draw().astype(dtype)


def bound_for(clip, leaves, fraction):
    """Return a bound that is a fraction of what the clip measures on the first leaf or row."""
    _, exceeds, order = CLIPS[clip]
    first = leaves[0][:1] if exceeds is in_rows else leaves[0]
    largest = float(size(first, order)) ** (1 / order if order != math.inf else 1)
    weight = {by_rms: math.sqrt(first.size), by_average: first.size}.get(exceeds, 1.0)
    return largest / weight * fraction


def converted(name, leaf):
    if name == "torch" and leaf.dtype.name == "bfloat16":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        return torch.from_numpy(leaf.view(np.int16).copy()).view(torch.bfloat16)
    return arrays.library(name).convert(leaf.copy())


def returned(name, leaf):
    """Return an array of a library as one of NumPy, bfloat16 as the same numbers in float32."""
    if str(leaf.dtype) == "torch.bfloat16":
        leaf = leaf.float()
    return np.asarray(arrays.library(name).entries(leaf))


def violations(library, clip, names, seeds, *, shape=None, strict=True, **options):
    """Return the seeds whose result is above its bound, and those whose second clip changes it."""
    function, exceeds, order = CLIPS[clip]
    above, changed = [], []
    for seed in seeds:
        leaves, fraction = drawn(names, seed, shape)
        bound = bound_for(clip, leaves, fraction)
        once = function([converted(library, x) for x in leaves], bound, strict=strict, **options)
        twice = function(once, bound, strict=strict, **options)
        here, again = ([returned(library, x) for x in t] for t in (once, twice))
        if exceeds(here, bound, order):
            above.append(seed)
        if [x.tobytes() for x in here] != [x.tobytes() for x in again]:
            changed.append(seed)
    return above, changed


def dashed(name):
    return name.replace(", ", "-").replace(" ", "-")


CALLS = {"numpy": (60, 150), "torch": (20, 50)}
"""How many draws `make test` clips, and `make test-all`."""


@pytest.fixture(params=CALLS)
def eager(request):
    return arrays.library(request.param).name


@pytest.fixture(params=thinned(["few", "more"], keep=["few"]))
def seeds(request, eager):
    """Numbers to draw by."""
    few, all_ = CALLS[eager]
    return range(few) if request.param == "few" else range(few, all_)


def cases(trees):
    """Every clip with every tree it takes."""
    found = {
        f"{clip}, {tree}": (clip, trees[tree])
        for clip in CLIPS
        for tree in trees
        if not (tree == "complex64" and clip in REAL_ONLY)
    }
    return pytest.mark.parametrize(("clip", "names"), found.values(), ids=map(dashed, found))


@pytest.fixture(params=[False, True], ids=["default", "reproducible"])
def reproducible(request):
    return request.param


@cases(SINGLE_AND_DOUBLE)
def test_no_result_is_above_its_bound_and_clipping_twice_changes_no_bit(
    eager, clip, names, seeds, reproducible
):
    found = violations(eager, clip, names, seeds, reproducible=reproducible)
    assert found == ([], [])


@pytest.mark.parametrize("names", SINGLE_AND_DOUBLE.values(), ids=SINGLE_AND_DOUBLE)
@pytest.mark.parametrize(
    "draws", thinned([range(200, 800), range(800, 2500)], keep=[range(200, 800)], ids=str)
)
def test_the_same_in_thousands_of_calls(names, draws):
    assert violations("numpy", "global", names, draws) == ([], [])


@pytest.mark.parametrize("names", [("float32", "float32"), ("float64", "float64")], ids="/".join)
def test_the_same_on_jax(names):
    assert violations("jax", "global", names, range(100), shape=(2, 3)) == ([], [])


@cases(WITH_HALVES)
def test_half_types_are_never_above_in_their_normal_range(eager, clip, names, seeds):
    assert violations(eager, clip, names, seeds) == ([], [])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_without_strict_some_results_are_above(dtype):
    above, _ = violations("numpy", "global", (dtype, dtype), range(200), strict=False)
    assert above, "no rounding was seen: the tests above cannot fail"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_strict_some_second_clips_change_a_bit(dtype):
    _, changed = violations("numpy", "global", (dtype, dtype), range(200), strict=False)
    assert changed, "no rounding was seen: the tests above cannot fail"


def numbers(width):
    """Zero, and numbers between 2^-66 and 2^66."""
    positive = st.floats(2.0**-66, 2.0**66, width=width)
    return st.lists(st.one_of(st.just(0.0), positive, positive.map(lambda x: -x)), min_size=1)


@pytest.mark.parametrize(("dtype", "width"), [("float32", 32), ("float64", 64)])
@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_whatever_the_numbers_and_the_bound(dtype, width, data):
    x = np.asarray(data.draw(numbers(width)), dtype=dtype)
    bound = data.draw(st.floats(2.0**-80, 2.0**70))
    once = agclip.clip_by_norm(x, bound, strict=True)
    # What is not clipped has a norm within the bound as it is computed, in float64.
    slack = 1 + Fraction(1, 2**50) if once is x else 1
    assert size(once) <= (slack * Fraction(bound)) ** 2
    assert agclip.clip_by_norm(once, bound, strict=True).tobytes() == once.tobytes()


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize(
    ("dtype", "values"), [("float32", [1.0, 2.0**-66]), ("float64", [2.0**26, 1.0])]
)
def test_a_norm_that_rounds_to_the_bound_is_above_it(dtype, values, reproducible):
    x = np.asarray(values, dtype=dtype)
    bound = values[0]
    out = agclip.clip_by_norm(x, bound, strict=True, reproducible=reproducible)
    assert size(x) > Fraction(bound) ** 2
    assert size(out) <= Fraction(bound) ** 2, "the exact norm of the result is above the bound"


@pytest.mark.parametrize("loss_scale", [3.0, 2.0**16, 1e-3])
@pytest.mark.parametrize("names", [("float32", "float32"), ("float64", "float64")], ids="/".join)
def test_the_bound_holds_for_what_goes_out_divided_by_a_loss_scale(names, loss_scale):
    above = []
    for seed in range(150):
        leaves, fraction = drawn(names, seed, None)
        bound = bound_for("global", leaves, fraction) / loss_scale
        out, _ = agclip.clip_by_global_norm(leaves, bound, strict=True, loss_scale=loss_scale)
        above += [seed] * in_all(out, bound)
    assert above == []
