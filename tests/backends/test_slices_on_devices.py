"""Norms along trailing axes through the kernels: few launches whatever the number of leaves.

The kernels are compiled for the host; its tensors pass for those of a device. What the general
program makes of the same leaves is what they have to make of them.
"""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional, here and below
from agclip_backends._cuda import halves  # noqa: E402
from agclip_backends._cuda.fused_source import INLINE  # noqa: E402
from fused_rehearsal import device  # noqa: E402
from fused_seam_cases import alike, same  # noqa: E402
from slice_cases import LARGE, OPTIONS, SHAPES, calls  # noqa: E402

pytest_plugins = ["fused_fixtures"]

DTYPES = ("float16", "bfloat16", "float32")


def drawn(dtype, shapes=SHAPES, bad=None):
    draw = torch.Generator().manual_seed(0)
    found = [torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes]
    found = [x.to(getattr(torch, dtype)) for x in found]
    if bad is not None:
        found[0].view(-1)[4] = bad
    return found


def params(leaves):
    return [(torch.arange(x.numel()) % 7).reshape(x.shape).to(x.dtype) for x in leaves]


# A test puts another function in its place.
CALLS = calls(lambda leaves: params(leaves))  # noqa: PLW0108


def shaped(name):
    return [s for s in SHAPES if s] if name.startswith("axes") else SHAPES


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture(params=sorted(CALLS))
def name(request):
    return request.param


def by_the_program(name, leaves, **options):
    with device(None):
        return CALLS[name](leaves, **options)


@pytest.mark.parametrize("bad", [None, math.nan])
def test_slices_are_clipped_as_the_general_program_does(seam, seam_host, name, dtype, bad):
    for options in OPTIONS:
        leaves, others = (drawn(dtype, shaped(name), bad) for _ in range(2))
        seam_host.launches.clear()
        with device(seam, seam):
            found = CALLS[name](leaves, **options)
        norms = ["agclip_norm_2"] * (2 if name.startswith("units") else 1)
        policies = ("propagate", "skip") if "place" in name else ("propagate",)
        products = ["agclip_product"] * (options["nonfinite"] in policies)
        assert seam_host.launches[: len(norms) + len(products)] == norms + products
        if products:
            assert len(seam_host.launches) == len(norms) + 1
        wanted = by_the_program(name, others, **options)
        for x, y in zip(found, wanted, strict=True):
            assert x.shape == y.shape
            assert same(x, y, dtype), options
        assert all(x is y for x, y in zip(found, leaves, strict=True)) == ("place" in name)


def test_slices_that_several_blocks_add_up(seam, seam_host, name, dtype):
    leaves, others = (drawn(dtype, LARGE) for _ in range(2))
    with device(seam, seam):
        found = CALLS[name](leaves)
    assert seam_host.launches[-1] == "agclip_product"
    wanted = by_the_program(name, others)
    assert all(same(x, y, dtype) for x, y in zip(found, wanted, strict=True))


@pytest.mark.parametrize("count", [1, 3, INLINE, 400])
def test_launches_do_not_depend_on_the_number_of_leaves(seam, seam_host, name, count):
    leaves = drawn("float32", [(3, 5)] * count)
    other = [x.clone() for x in leaves]
    for turn in range(2):
        before = seam_host.launches[:], seam.room.library.host.uploads
        with device(seam, seam):
            found = CALLS[name](leaves)
        made = seam_host.launches[len(before[0]) :]
        assert made == ["agclip_norm_2"] * (len(made) - 1) + ["agclip_product"]
        assert len(made) == (3 if name.startswith("units") else 2)
        if turn and name == "axes, in place":
            assert seam.room.library.host.uploads == before[1]
        wanted = by_the_program(name, other)
        assert all(map(torch.equal, found, wanted))


VIEWS = {"reshape", "view", "slice", "expand", "as_strided", "detach", "alias", "select", "to"}
"""Operations that look at memory another way, and launch nothing."""


def operations(seam, name, count):
    """Return what is asked of PyTorch besides views: on a device each is a launch, or memory."""
    leaves = drawn("float32", [(3, 5)] * count)
    weights = params(leaves)
    with pytest.MonkeyPatch.context() as patch, device(seam, seam):
        patch.setitem(globals(), "params", lambda _: weights)
        CALLS[name](leaves)
        with torch.profiler.profile() as profile:
            CALLS[name](leaves)
    names = [e.name for e in profile.events() if e.cpu_parent is None]
    found = [n.removeprefix("aten::") for n in names if n.startswith("aten::")]
    return sorted(n for n in found if n not in VIEWS)


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")
@pytest.mark.parametrize(("name", "most"), [("axes, in place", 26), ("units, in place", 42)])
def test_no_leaf_takes_a_launch_of_its_own(seam, seam_host, name, most):
    few, many = (operations(seam, name, count) for count in (4, 44))
    assert few == many
    assert len(few) <= most, few


@pytest.mark.parametrize("options", OPTIONS[::2], ids=str)
@pytest.mark.parametrize("bad", [None, math.nan])
def test_norms_of_examples_take_one_launch(seam, seam_host, dtype, options, bad):
    shapes = [(4, 3), (4,), (4, 2, 5), (4, 0)]
    given = {k: v for k, v in options.items() if k != "strict"}
    with device(seam, seam):
        found, count = agclip.clip_per_example(drawn(dtype, shapes, bad), 0.7, **given)
    assert seam_host.launches == ["agclip_norm_2"]
    with device(None):
        wanted, number = agclip.clip_per_example(drawn(dtype, shapes, bad), 0.7, **given)
    assert int(count) == int(number) > 0
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


RULES = {
    "ClipByNorm": lambda **o: agclip.ClipByNorm(0.5, axes=-1, **o),
    "AdaptiveGradClip": lambda **o: agclip.AdaptiveGradClip(0.1, unit_axes="out_in", **o),
}


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("rule", RULES)
def test_rules_and_their_records_are_those_of_the_general_program(
    seam, seam_host, rule, dtype, inplace
):
    made, shapes = RULES[rule](), shaped("axes" if rule == "ClipByNorm" else "units")
    results = []
    for way in (seam, None):
        leaves = drawn(dtype, shapes)
        with device(way, way), torch.no_grad():
            step = made.update_ if inplace else made.update
            new, _, info = step(leaves, made.init(leaves), params(leaves))
            results.append((new, info.to_host()))
    assert "agclip_product" in seam_host.launches
    (found, mine), (wanted, theirs) = results
    assert all(same(x, y, dtype) for x, y in zip(found, wanted, strict=True))
    alike(mine, theirs)


def turned(x):
    return x.T.contiguous().T


LEFT = {
    "float64": lambda: agclip.clip_by_norm_(drawn("float64", [(4, 3), (2, 5)]), 0.5, axes=1),
    "complex": lambda: agclip.clip_by_norm_(drawn("complex64", [(4, 3), (2, 5)]), 0.5, axes=1),
    "leading axes": lambda: agclip.clip_by_norm_(drawn("float32", [(4, 3), (2, 5)]), 0.5, axes=0),
    "a transpose": lambda: agclip.clip_by_norm_(
        [turned(x) for x in drawn("float32", [(4, 3), (2, 5)])], 0.5, axes=1
    ),
    "gaps": lambda: agclip.clip_by_norm_(
        [x[:, ::2] for x in drawn("float32", [(4, 3), (2, 5)])], 0.5, axes=1
    ),
    "another order": lambda: agclip.clip_by_norm_(
        drawn("float32", [(4, 3), (2, 5)]), 0.5, axes=1, ord=1
    ),
    "reproducible": lambda: agclip.clip_by_norm_(
        drawn("float32", [(4, 3), (2, 5)]), 0.5, axes=1, reproducible=True
    ),
    "autograd": lambda: [
        x.detach()
        for x in agclip.clip_by_norm(
            [x.requires_grad_() * 1 for x in drawn("float32", [(4, 3), (2, 5)])], 0.5, axes=1
        )
    ],
}


@pytest.mark.parametrize("case", LEFT)
def test_what_the_kernels_do_not_take_is_left_to_the_general_program(seam, seam_host, case):
    with device(seam, seam):
        found = LEFT[case]()
    # Of joined and dense leaves the general program may have its own halves done by the kernels.
    assert "agclip_norm_2" not in seam_host.launches
    with device(None):
        wanted = LEFT[case]()
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-14 if case == "float64" else 0, atol=0)


def test_too_many_slices_are_summed_along_axes(seam, seam_host, monkeypatch):
    monkeypatch.setattr(halves, "MOST_SLICES", 6)
    for shapes, taken in (([(4, 3), (2, 5)], True), ([(4, 3), (3, 5)], False)):
        seam_host.launches.clear()
        with device(seam, seam):
            found = CALLS["axes"](drawn("float32", shapes))
        assert bool(seam_host.launches) == taken
        assert all(map(torch.equal, found, by_the_program("axes", drawn("float32", shapes))))


def test_memory_that_is_there_twice_is_multiplied_once(seam, seam_host):
    (x,) = drawn("float32", [(6, 5)])
    y = x.clone()
    with device(seam, seam):
        agclip.clip_by_norm_([x, x], 0.5, axes=1)
    assert "agclip_norm_2" in seam_host.launches
    assert torch.equal(x, by_the_program("axes", [y])[0])


def test_a_slice_has_the_sum_that_a_leaf_has(room):
    leaves = [np.linspace(-3, 3, n, dtype=np.float32).reshape(k, -1) for n, k in ((33, 3), (50, 2))]
    found = halves.sums(room, leaves, (3, 2))
    alone = [row for x in leaves for row in x]
    assert found.tolist() == halves.sums(room, alone).tolist()


def test_sums_leave_the_counters_at_zero(room, host_library):
    leaves = [np.ones((5, 40_000), np.float32), np.ones((2, 3), np.float32)]
    for _ in range(2):
        assert halves.sums(room, leaves, (5, 2)).tolist() == [40_000.0] * 5 + [3.0] * 2
    (space,) = room._ordered.workspaces.values()
    assert not space.memory.view(np.uint32)[: space.leaves + 3].any()
