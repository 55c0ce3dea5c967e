"""Calls through the seam of the fused kernels: how many launches, and what goes another way."""

import math

import numpy as np
import pytest

import agclip
from agclip._backends.dtypes import kind_named
from agclip._clipping.value_bounds import rounded

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fused_rehearsal  # noqa: E402 - PyTorch is optional
from fused_rehearsal import device  # noqa: E402
from fused_seam_cases import alike, leaves_of, same, stepped  # noqa: E402

pytest_plugins = ["fused_fixtures"]

# PyTorch's profiler says so once in a process (torch 2.11).
pytestmark = pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")

# --- how many launches --------------------------------------------------------------------------

FUNCTIONS = {
    "clip_by_norm": lambda t, twin: twin("clip_by_norm")(t, 0.5),
    "clip_by_rms": lambda t, twin: twin("clip_by_rms")(t, 0.5),
    "clip_by_average_norm": lambda t, twin: twin("clip_by_average_norm")(t, 0.5),
    "clip_by_global_norm": lambda t, twin: twin("clip_by_global_norm")(t, 0.5),
    "clip_by_value": lambda t, twin: twin("clip_by_value")(t, -0.5, 0.5),
    "global_norm": lambda t, twin: agclip.global_norm(t),
}


@pytest.fixture
def idle(seam_host, monkeypatch):
    """Kernels that are launched, and compute nothing."""
    monkeypatch.setattr(seam_host, "_perform", lambda _: None)
    return seam_host


@pytest.mark.parametrize("count", [1, 20, 1000])
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_launches_are_enough(seam, idle, name, inplace, count):
    leaves = leaves_of("float32", (7,) * count)
    products = [] if name == "global_norm" else ["agclip_product"]
    wanted = ["agclip_within"] if name == "clip_by_value" else ["agclip_norm_2", *products]

    def twin(public):
        return getattr(agclip, public + "_" * inplace)

    kept = None
    with device(seam), torch.profiler.profile() as profile:
        for _ in range(3):
            idle.launches.clear()
            before = idle.uploads
            kept = FUNCTIONS[name](leaves, twin)
            assert idle.launches == wanted
    assert kept is not None
    if inplace or name == "global_norm":
        assert idle.uploads == before
    assert "aten::item" not in {event.name for event in profile.events()}


def test_float64_takes_one_launch_more(seam, seam_host):
    with device(seam):
        agclip.clip_by_global_norm_(leaves_of("float64"), 0.5)
    assert seam_host.launches == ["agclip_norm_2", "agclip_norm_2_again", "agclip_product"]


@pytest.mark.parametrize("count", [1, 20, 1000])
def test_a_record_takes_one_launch_more(seam, idle, count):
    stepped(agclip.ClipByGlobalNorm(0.5), leaves_of("bfloat16", (7,) * count), seam, inplace=True)
    assert idle.launches == ["agclip_norm_2", "agclip_report", "agclip_product"]


def test_products_after_the_norms_of_another_clip_need_no_counter(seam, seam_host):
    rule = agclip.PerGroup({"a*": agclip.ClipByNorm(0.5), "*": agclip.ClipByGlobalNorm(0.5)})
    trees = [dict(zip(("a", "b"), leaves_of("float32", (1 << 18,) * 2), strict=True)) for _ in "ab"]
    found = stepped(rule, trees[0], seam, inplace=True)
    grids = [grid for _, name, grid, _ in seam_host.recorded if name == "agclip_product"]
    wanted = stepped(rule, trees[1], None, inplace=True)
    assert len(grids) == 2
    assert grids[0] > grids[1]
    assert all(torch.equal(trees[0][key], trees[1][key]) for key in "ab")
    alike(found[2], wanted[2])


# --- what is left to the general program --------------------------------------------------------


def ones(*shape, **options):
    return torch.ones(*shape, **options) * 3


REFUSED = {
    "axes": lambda: agclip.clip_by_norm(ones(3, 2), 0.5, 0),
    "another order": lambda: agclip.clip_by_norm(ones(3), 0.5, ord=3),
    "reproducible": lambda: agclip.clip_by_norm(ones(3), 0.5, reproducible=True),
    "an error": lambda: agclip.clip_by_norm(ones(3), 0.5, nonfinite="error"),
    "a leaf that requires grad": lambda: agclip.clip_by_norm(
        (ones(3).requires_grad_() * 2), 0.5
    ).detach(),
    "a bound that requires grad": lambda: agclip.clip_by_norm(
        ones(3), torch.tensor(0.5, requires_grad=True)
    ).detach(),
    "a function's gradient": lambda: torch.func.grad(lambda x: agclip.clip_by_norm(x, 0.5).sum())(
        ones(3)
    ),
    "vmap": lambda: torch.func.vmap(lambda x: agclip.clip_by_norm(x, 0.5))(ones(3, 2)),
    "a forward derivative": lambda: torch.func.jvp(
        lambda x: agclip.clip_by_norm(x, 0.5), (ones(3),), (ones(3),)
    )[1],
    "a subclass": lambda: agclip.clip_by_norm(Own(ones(3)), 0.5).as_subclass(torch.Tensor),
    "float8": lambda: agclip.clip_by_norm(ones(3).to(torch.float8_e4m3fn), 0.5).float(),
    "gaps": lambda: agclip.clip_by_norm(ones(4, 6)[:, ::2], 0.5),
    "complex magnitudes": lambda: agclip.clip_by_norm(ones(3) * (1 + 1j), 0.5, ord=1),
    "float64 magnitudes": lambda: agclip.clip_by_norm(ones(3).double(), 0.5, ord=1),
    "a conjugate": lambda: agclip.clip_by_norm((ones(3) * (1 + 1j)).conj(), 0.5).resolve_conj(),
    "a bound of integers": lambda: agclip.clip_by_norm(ones(3), torch.tensor(1)),
    "integers": lambda: agclip.clip_by_value(ones(3).int(), 0, 1),
    "bounds with axes": lambda: agclip.clip_by_value(ones(3), torch.zeros(3), ones(3) / 9),
    "a loss scale of values": lambda: agclip.clip_by_value(ones(3), 0, 1, loss_scale=2.0),
    "switched off": lambda: _off(lambda: agclip.clip_by_norm(ones(3), 0.5)),
    "compiled": lambda: torch.compile(agclip.clip_by_norm, backend="eager")(ones(3), 0.5),
    "examples": lambda: agclip.clip_per_example(ones(3, 2), 0.5)[0],
    "units": lambda: agclip.adaptive_grad_clip(ones(3, 2), ones(3, 2), 0.1, unit_axes="out_in"),
}


class Own(torch.Tensor):
    """A subclass, which may do anything."""


def _off(call):
    with agclip.config_context(accelerate="off"):
        return call()


# The first forward derivative has PyTorch (2.13) compile decompositions by torch.jit.script.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_what_the_kernels_do_not_take_goes_the_general_way(seam, seam_host, case):
    with device(seam):
        found = REFUSED[case]()
    assert seam_host.launches == []
    with device(None):
        wanted = REFUSED[case]()
    assert type(found) is type(wanted)
    assert torch.equal(found, wanted)


def test_leaves_that_share_a_part_of_their_memory_are_new_all_the_same(seam, seam_host):
    memory = ones(9)
    with device(seam):
        new, norm = agclip.clip_by_global_norm([memory[:6], memory[3:]], 1.0)
    assert seam_host.launches
    assert float(norm) == pytest.approx(3 * math.sqrt(12))
    assert torch.equal(torch.cat(new), torch.full((12,), float(new[0][0])))


def test_memory_held_twice_counts_twice_and_is_written_once(seam, seam_host):
    for function in (agclip.clip_by_norm_, agclip.clip_by_global_norm_, agclip.clip_by_rms_):
        results = []
        for way in (seam, None):
            x, y = leaves_of("float32", (6, 8))
            with device(way):
                function({"a": x, "b": y, "c": x.view(2, 3), "d": x, "e": y[:0]}, 0.25)
            results.append((x, y))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert seam_host.launches.count("agclip_product") == 3


def test_autograd_learns_that_leaves_were_overwritten(seam, seam_host):
    x = ones(3)
    version = x._version
    with device(seam):
        agclip.clip_by_norm_(x, 0.5)
    assert x._version == version + 1


def test_parameters_in_inference_mode_and_without_a_graph(seam, seam_host):
    with device(seam):
        with torch.no_grad():
            x = ones(3).requires_grad_()
            agclip.clip_by_norm_(x, 0.5)
        with torch.inference_mode():
            y = agclip.clip_by_norm(agclip.clip_by_norm_(ones(3), 1.0), 0.5)
    assert x.requires_grad
    assert float(x.detach().norm()) == pytest.approx(0.5)
    assert float(y.norm()) == pytest.approx(0.5)
    assert seam_host.launches.count("agclip_product") == 3


# --- what cannot be compiled --------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["agclip_norm_2", "agclip_product", "agclip_report"])
def test_kernels_that_cannot_be_loaded_are_gone_without(library, monkeypatch, broken):
    own = fused_rehearsal.seam(library)

    def function(place, name, kinds):
        if name == broken:
            msg = "no compiler"
            raise OSError(msg)
        return name

    monkeypatch.setattr(own.room.library, "function", function)
    rule, leaves = agclip.ClipByGlobalNorm(0.5), leaves_of("float32")
    with pytest.warns(RuntimeWarning, match="cannot be compiled or loaded here.*no compiler"):
        stepped(rule, leaves, own, inplace=True)
    wanted = stepped(rule, leaves_of("float32"), None, inplace=True)
    assert all(torch.equal(x, y) for x, y in zip(leaves, wanted[0], strict=True))
    stepped(rule, leaves, own, inplace=True)  # a second warning would be an error


# --- bounds of entries --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_a_bound_is_rounded_to_the_nearest_number_of_a_dtype(name):
    if name == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    else:
        dtype = np.dtype(name)
    rng, kind = np.random.default_rng(0), kind_named(name)
    low, high = math.log2(float(np.finfo(np.float64).tiny)), math.log2(kind.largest)
    values = 2.0 ** rng.uniform(max(low, -160), high, 2000) * rng.choice([-1, 1], 2000)
    for value in (*values.tolist(), 0.0, math.inf, kind.largest, 1 + 2.0**-11, 3e-8, 2.0**-150):
        single = value if name != "bfloat16" else float(np.float32(value))
        with np.errstate(all="ignore"):
            assert rounded(single, kind) == float(np.float64(single).astype(dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("bounds", [(-0.1, 0.7), (None, 1 / 3), (1e-9, None), (-1e300, 1e300)])
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
def test_entries_are_clipped_in_one_launch(seam, seam_host, dtype, bounds, inplace):
    function = agclip.clip_by_value_ if inplace else agclip.clip_by_value
    found = []
    for way in (seam, None):
        leaves = leaves_of(dtype, bad=math.nan)
        with device(way):
            found.append(function(leaves, *bounds))
    assert seam_host.launches == ["agclip_within"]
    assert all(same(x, y, "float32") for x, y in zip(*found, strict=True))
