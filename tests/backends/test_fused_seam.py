"""Public functions and rules through the fused kernels: as the general program, in two launches.

The kernels are compiled for the host; its tensors pass for those of a device.
"""

import contextlib
import itertools
import math

import numpy as np
import pytest

import agclip
import arrays
import matrix
from agclip._backends.dtypes import kind_named
from agclip._clipping.value_bounds import rounded

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest_plugins = ["fused_fixtures"]

NARROW = ("float16", "bfloat16", "float32", "complex64")
SIZES = (5, 0, 300, 1, 70)
NORMS = ["agclip_norm_2"]
FIRST = {"agclip_norm_2", "agclip_norm_1", "agclip_norm_inf"}
FACTS = ("threshold", "clipped", "nonfinite", "skip")


@pytest.fixture(scope="module")
def seam(library):
    import fused_rehearsal

    return fused_rehearsal.seam(library)


@pytest.fixture
def host(seam):
    seam.room.library.host.launches.clear()
    seam.room.library.host.recorded.clear()
    return seam.room.library.host


def device(seam):
    import fused_rehearsal

    return fused_rehearsal.device(seam)


def leaves_of(dtype, sizes=SIZES, power=0, bad=None):
    generator = torch.Generator().manual_seed(0)
    kind = getattr(torch, dtype)
    base = torch.complex64 if kind.is_complex else torch.float64
    made = [torch.randn(n, generator=generator, dtype=base) * 2.0**power for n in sizes]
    leaves = [x.to(kind) for x in made]
    if bad is not None:
        leaves[2][7] = bad
    return leaves


RULES = {
    "ClipByNorm": lambda **o: agclip.ClipByNorm(0.5, **o),
    "ClipByNorm-1": lambda **o: agclip.ClipByNorm(0.5, ord=1, **o),
    "ClipByNorm-inf": lambda **o: agclip.ClipByNorm(0.5, ord=math.inf, **o),
    "ClipByAverageNorm": lambda **o: agclip.ClipByAverageNorm(0.01, **o),
    "ClipByRMS": lambda **o: agclip.ClipByRMS(0.25, **o),
    "ClipByGlobalNorm": lambda **o: agclip.ClipByGlobalNorm(0.5, **o),
    "ClipByGlobalNorm-1": lambda **o: agclip.ClipByGlobalNorm(0.5, ord=1, **o),
    "ClipByGlobalNorm-inf": lambda **o: agclip.ClipByGlobalNorm(0.5, ord=math.inf, **o),
    "ClipByGlobalNorm-idle": lambda **o: agclip.ClipByGlobalNorm(1e30, **o),
}
OPTIONS = [
    {"nonfinite": policy, "strict": strict, "loss_scale": loss}
    for policy, strict, loss in itertools.product(
        ("propagate", "zero", "skip"), (False, True), (None, 8.0, 0.37)
    )
]


def stepped(rule, leaves, seam, *, inplace):
    with device(seam):
        step = rule.update_ if inplace else rule.update
        new, _, info = step(leaves, rule.init(leaves))
        return new, info, info.to_host()


def same(one, other, dtype):
    if dtype in ("float64", "complex128"):
        return torch.allclose(one, other, rtol=1e-14, atol=0, equal_nan=True)
    return one.dtype == other.dtype and repr(one.tolist()) == repr(other.tolist())


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("bad", [None, math.nan, -math.inf])
@pytest.mark.parametrize("dtype", [*NARROW, "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_through_the_seam_is_the_general_program(seam, host, rule, dtype, bad, inplace):
    for options in OPTIONS:
        made = RULES[rule](**options)
        host.launches.clear()
        found = stepped(made, leaves_of(dtype, bad=bad), seam, inplace=inplace)
        taken = not (made_of_parts(dtype, rule) or (dtype == "float64" and rule.endswith("-1")))
        assert bool(host.launches) == taken
        wanted = stepped(made, leaves_of(dtype, bad=bad), None, inplace=inplace)
        for x, y in zip(found[0], wanted[0], strict=True):
            assert same(x, y, dtype), options
        for name in ("norm", "scale", "threshold", "clipped", "nonfinite", "skip"):
            one, other = getattr(found[1], name), getattr(wanted[1], name)
            assert (one.dtype, one.shape) == (other.dtype, other.shape), name
        for one, other in zip(
            found[1].leaf_norms.values(), wanted[1].leaf_norms.values(), strict=True
        ):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
        alike(found[2], wanted[2])


def made_of_parts(dtype, rule):
    return dtype.startswith("complex") and rule.endswith(("-1", "-inf"))


def alike(found, wanted):
    """Records agree: to a few units of float64 in what is one, which sums in other orders are."""
    for name in FACTS:
        assert repr(getattr(found, name)) == repr(getattr(wanted, name))
    assert found.norm == pytest.approx(wanted.norm, rel=1e-14, nan_ok=True)
    assert found.scale == pytest.approx(wanted.scale, rel=1e-14, nan_ok=True)
    assert found.leaf_norms == pytest.approx(wanted.leaf_norms, rel=1e-14, nan_ok=True)


@pytest.mark.parametrize("rule", ["ClipByNorm", "ClipByGlobalNorm"])
@pytest.mark.parametrize("loss_scale", [None, 3.0])
def test_each_leaf_of_float64_has_its_norm_beside_another_out_of_range(
    seam, host, rule, loss_scale
):
    leaves = [
        x * 2.0**p
        for x, p in zip(leaves_of("float64", (9,) * 5), (0, 600, -700, -1060, 30), strict=True)
    ]
    made = RULES[rule](loss_scale=loss_scale)
    found = stepped(made, [x.clone() for x in leaves], seam, inplace=False)
    wanted = stepped(made, [x.clone() for x in leaves], None, inplace=False)
    assert host.launches
    alike(found[2], wanted[2])
    assert all(same(x, y, "float64") for x, y in zip(found[0], wanted[0], strict=True))


LIBRARY = arrays.Library("torch", torch.from_numpy, None)


@pytest.mark.parametrize("kind", [k for k in matrix.KINDS if not matrix.KINDS[k].foreign])
@pytest.mark.parametrize("subject", matrix.SUBJECTS)
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
def test_the_matrix_through_the_seam_is_the_general_program(seam, subject, kind, inplace):
    one, kind = matrix.SUBJECTS[subject], matrix.KINDS[kind]
    if inplace and not one.inplace:
        pytest.skip(f"{one.public} has no twin that works in place")
    found = []
    for way in (seam, None):
        trees, params = matrix.trees_of(kind, LIBRARY)
        with device(way):
            results, facts = one.run(trees, params, kind.policy, inplace=inplace)
        found.append([[x.tolist() for x in matrix.leaves_of(tree)] for tree in results])
        found.append(facts)
    assert repr(found[0]) == repr(found[2])
    np.testing.assert_equal(numbers(found[1]), pytest.approx(numbers(found[3]), nan_ok=True))


def numbers(x):
    """All numbers of states and records, in order."""
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (list, tuple)):
        return [one for child in x for one in numbers(child)]
    return [float(x)]


# --- how many launches --------------------------------------------------------------------------

FUNCTIONS = {
    "clip_by_norm": lambda t, twin: twin("clip_by_norm")(t, 0.5),
    "clip_by_rms": lambda t, twin: twin("clip_by_rms")(t, 0.5),
    "clip_by_average_norm": lambda t, twin: twin("clip_by_average_norm")(t, 0.5),
    "clip_by_global_norm": lambda t, twin: twin("clip_by_global_norm")(t, 0.5),
    "clip_by_value": lambda t, twin: twin("clip_by_value")(t, -0.5, 0.5),
    "global_norm": lambda t, twin: agclip.global_norm(t),
}


@pytest.mark.parametrize("count", [1, 20, 1000])
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_launches_are_enough(seam, host, name, inplace, count):
    leaves = leaves_of("float32", (7,) * count)
    products = [] if name == "global_norm" else ["agclip_product"]
    wanted = ["agclip_within"] if name == "clip_by_value" else NORMS + products

    def twin(public):
        return getattr(agclip, public + "_" * inplace)

    kept = None
    with device(seam), torch.profiler.profile() as profile:
        for _ in range(3):
            host.launches.clear()
            before = host.uploads
            kept = FUNCTIONS[name](leaves, twin)
            assert host.launches == wanted
    assert kept is not None
    if inplace or name == "global_norm":
        assert host.uploads == before
    assert "aten::item" not in {event.name for event in profile.events()}


def test_float64_takes_one_launch_more(seam, host):
    with device(seam):
        agclip.clip_by_global_norm_(leaves_of("float64"), 0.5)
    assert host.launches == ["agclip_norm_2", "agclip_norm_2_again", "agclip_product"]


@pytest.mark.parametrize("count", [1, 20, 1000])
def test_a_record_takes_one_launch_more(seam, host, count):
    stepped(agclip.ClipByGlobalNorm(0.5), leaves_of("bfloat16", (7,) * count), seam, inplace=True)
    assert host.launches == ["agclip_norm_2", "agclip_report", "agclip_product"]


def test_products_after_the_norms_of_another_clip_need_no_counter(seam, host):
    rule = agclip.PerGroup({"a*": agclip.ClipByNorm(0.5), "*": agclip.ClipByGlobalNorm(0.5)})
    trees = [dict(zip(("a", "b"), leaves_of("float32", (1 << 18,) * 2), strict=True)) for _ in "ab"]
    found = stepped(rule, trees[0], seam, inplace=True)
    grids = [grid for _, name, grid, _ in host.recorded if name == "agclip_product"]
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
    "a given norm": lambda: agclip.clip_by_global_norm([ones(3)], 0.5, 9.0)[0][0],
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
def test_what_the_kernels_do_not_take_goes_the_general_way(seam, host, case):
    with device(seam):
        found = REFUSED[case]()
    assert host.launches == []
    with device(None):
        wanted = REFUSED[case]()
    assert type(found) is type(wanted)
    assert torch.equal(found, wanted)


def test_leaves_that_share_a_part_of_their_memory_are_new_all_the_same(seam, host):
    memory = ones(9)
    with device(seam):
        new, norm = agclip.clip_by_global_norm([memory[:6], memory[3:]], 1.0)
    assert host.launches
    assert float(norm) == pytest.approx(3 * math.sqrt(12))
    assert torch.equal(torch.cat(new), torch.full((12,), float(new[0][0])))


def test_memory_held_twice_counts_twice_and_is_written_once(seam, host):
    for function in (agclip.clip_by_norm_, agclip.clip_by_global_norm_, agclip.clip_by_rms_):
        results = []
        for way in (seam, None):
            x, y = leaves_of("float32", (6, 8))
            with device(way):
                function({"a": x, "b": y, "c": x.view(2, 3), "d": x, "e": y[:0]}, 0.25)
            results.append((x, y))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert host.launches.count("agclip_product") == 3


def test_autograd_learns_that_leaves_were_overwritten(seam, host):
    x = ones(3)
    version = x._version
    with device(seam):
        agclip.clip_by_norm_(x, 0.5)
    assert x._version == version + 1


def test_parameters_in_inference_mode_and_without_a_graph(seam, host):
    with device(seam):
        with torch.no_grad():
            x = ones(3).requires_grad_()
            with warnings_of_parameters():
                agclip.clip_by_norm_(x, 0.5)
        with torch.inference_mode():
            y = agclip.clip_by_norm(agclip.clip_by_norm_(ones(3), 1.0), 0.5)
    assert x.requires_grad
    assert float(x.detach().norm()) == pytest.approx(0.5)
    assert float(y.norm()) == pytest.approx(0.5)
    assert host.launches.count("agclip_product") == 3


@contextlib.contextmanager
def warnings_of_parameters():
    yield


# --- what cannot be compiled --------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["agclip_norm_2", "agclip_product", "agclip_report"])
def test_kernels_that_cannot_be_loaded_are_gone_without(library, monkeypatch, broken):
    import fused_rehearsal

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
def test_entries_are_clipped_in_one_launch(seam, host, dtype, bounds, inplace):
    function = agclip.clip_by_value_ if inplace else agclip.clip_by_value
    found = []
    for way in (seam, None):
        leaves = leaves_of(dtype, bad=math.nan)
        with device(way):
            found.append(function(leaves, *bounds))
    assert host.launches == ["agclip_within"]
    assert all(same(x, y, "float32") for x, y in zip(*found, strict=True))
