"""Norms along trailing axes of CuPy's arrays through the kernels: few launches for all leaves.

NumPy's arrays pass for CuPy's, and the kernels are compiled for the host. What the general program
makes of the same leaves is what they have to make of them.
"""

import math

import numpy as np
import pytest

import agclip
import cuda_host
import fused_host
from agclip_backends._cuda import halves
from agclip_backends._cuda.fused_source import INLINE

pytest.importorskip("cupy", reason="CuPy is not installed")
ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")

import cupy_rehearsal  # noqa: E402 - CuPy is optional
from cupy_rehearsal import device, there  # noqa: E402
from slice_cases import LARGE, OPTIONS, SHAPES, calls  # noqa: E402

pytest_plugins = ["fused_fixtures"]

DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
VIEWS = {"reshape", "empty", "empty_like", "unstack", "broadcast_to"}
"""Functions that look at memory another way, or take some, and launch nothing."""


@pytest.fixture(scope="session")
def entries(tmp_path_factory):
    return cuda_host.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def host(library):
    return fused_host.HostLibrary(library)


@pytest.fixture
def there_is(host, entries):
    """Agclip with a device; what it launches is in `there_is.launches`."""

    class There:
        launches = host.launches

        def by(self, call, *given, slices_too=True, whole=True, **options):
            with device(host, entries, slices_too=slices_too, whole=whole) as made:
                found = call(*given, **options)
            self.asked = made.cupy.called + made.xp.called
            return found

        def by_the_program(self, call, *given, **options):
            with np.errstate(all="ignore"):
                return self.by(call, *given, slices_too=False, whole=False, **options)

    return There()


@pytest.fixture(params=DTYPES)
def dtype(request):
    return DTYPES[request.param]


def params(leaves):
    return [there((np.arange(x.size) % 7).reshape(x.shape).astype(x.dtype)) for x in leaves]


CALLS = calls(params)


@pytest.fixture(params=sorted(CALLS))
def name(request):
    return request.param


def drawn(dtype, shapes=SHAPES, bad=None):
    rng = np.random.default_rng(0)
    found = [rng.standard_normal(s) for s in shapes]
    if bad is not None:
        found[0].reshape(-1)[4] = bad
    return [there(x.astype(dtype)) for x in found]


def shaped(name):
    return [s for s in SHAPES if s] if name.startswith("axes") else SHAPES


def bits(arrays):
    """Return what arrays hold: all NaN are one, zeros have a sign."""
    arrays = list(arrays)
    wide = [np.asarray(x, np.float64) for x in arrays]
    return [(x.dtype, x.shape, repr(w.tolist())) for x, w in zip(arrays, wide, strict=True)]


@pytest.mark.parametrize("bad", [None, math.nan])
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_slices_are_clipped_as_the_general_program_does(there_is, name, dtype, bad):
    for options in OPTIONS:
        leaves, others = (drawn(dtype, shaped(name), bad) for _ in range(2))
        there_is.launches.clear()
        found = there_is.by(CALLS[name], leaves, **options)
        norms = ["agclip_norm_2"] * (2 if name.startswith("units") else 1)
        policies = ("propagate", "skip") if "place" in name else ("propagate",)
        products = ["agclip_product"] * (options["nonfinite"] in policies)
        assert there_is.launches == norms + products
        assert bits(found) == bits(there_is.by_the_program(CALLS[name], others, **options))
        assert all(x is y for x, y in zip(found, leaves, strict=True)) == ("place" in name)


def test_slices_that_several_blocks_add_up(there_is, name, dtype):
    found = there_is.by(CALLS[name], drawn(dtype, LARGE))
    assert there_is.launches[-1] == "agclip_product"
    assert bits(found) == bits(there_is.by_the_program(CALLS[name], drawn(dtype, LARGE)))


@pytest.mark.parametrize("count", [1, 3, INLINE, 400])
def test_launches_do_not_depend_on_the_number_of_leaves(there_is, name, count):
    found = there_is.by(CALLS[name], drawn("float32", [(3, 5)] * count))
    norms = ["agclip_norm_2"] * (2 if name.startswith("units") else 1)
    assert there_is.launches == [*norms, "agclip_product"]
    assert bits(found) == bits(
        there_is.by_the_program(CALLS[name], drawn("float32", [(3, 5)] * count))
    )


@pytest.mark.parametrize(("name", "most"), [("axes, in place", 12), ("units, in place", 19)])
def test_no_leaf_takes_a_function_of_cupys_of_its_own(there_is, name, most):
    asked = []
    for count in (4, 44):
        leaves = drawn("float32", [(3, 5)] * count)
        there_is.by(CALLS[name], leaves)
        asked.append(sorted(x for x in there_is.asked if x not in VIEWS))
    few, many = asked
    assert few == many
    assert len(few) <= most, few


@pytest.mark.parametrize("options", OPTIONS[::2], ids=str)
@pytest.mark.parametrize("bad", [None, math.nan])
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_norms_of_examples_take_one_launch(there_is, dtype, options, bad):
    shapes = [(4, 3), (4,), (4, 2, 5), (4, 0)]
    given = {k: v for k, v in options.items() if k != "strict"}
    found, count = there_is.by(agclip.clip_per_example, drawn(dtype, shapes, bad), 0.7, **given)
    assert there_is.launches == ["agclip_norm_2"]
    wanted, number = there_is.by_the_program(
        agclip.clip_per_example, drawn(dtype, shapes, bad), 0.7, **given
    )
    assert int(count) == int(number) > 0
    assert bits(found) == bits(wanted)


RULES = {
    "ClipByNorm": lambda: agclip.ClipByNorm(0.5, axes=-1),
    "AdaptiveGradClip": lambda: agclip.AdaptiveGradClip(0.1, unit_axes="out_in"),
}


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in-place"])
@pytest.mark.parametrize("rule", RULES)
def test_rules_and_their_records_are_those_of_the_general_program(there_is, rule, dtype, inplace):
    made, shapes = RULES[rule](), shaped("axes" if rule == "ClipByNorm" else "units")

    def step(leaves):
        take = made.update_ if inplace else made.update
        new, _, info = take(leaves, made.init(leaves), params(leaves))
        return new, info.to_host()

    found, mine = there_is.by(step, drawn(dtype, shapes))
    assert there_is.launches[-1] == "agclip_product"
    wanted, theirs = there_is.by_the_program(step, drawn(dtype, shapes))
    assert bits(found) == bits(wanted)
    assert mine == theirs


LEFT = {
    "float64": lambda: agclip.clip_by_norm_(drawn("float64", [(4, 3), (2, 5)]), 0.5, axes=1),
    "complex": lambda: agclip.clip_by_norm_(drawn("complex64", [(4, 3), (2, 5)]), 0.5, axes=1),
    "leading axes": lambda: agclip.clip_by_norm_(drawn("float32", [(4, 3), (2, 5)]), 0.5, axes=0),
    "a transpose": lambda: agclip.clip_by_norm_(
        [x.T for x in drawn("float32", [(3, 4), (5, 2)])], 0.5, axes=1
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
}


@pytest.mark.parametrize("case", LEFT)
def test_what_the_kernels_do_not_take_is_left_to_the_general_program(there_is, case):
    found = there_is.by(LEFT[case])
    assert there_is.launches == []
    assert bits(map(np.real, found)) == bits(map(np.real, there_is.by_the_program(LEFT[case])))


def test_too_many_slices_are_summed_along_axes(there_is, monkeypatch):
    monkeypatch.setattr(halves, "MOST_SLICES", 6)
    for shapes, taken in (([(4, 3), (2, 5)], True), ([(4, 3), (3, 5)], False)):
        there_is.launches.clear()
        found = there_is.by(CALLS["axes"], drawn("float32", shapes))
        assert bool(there_is.launches) == taken
        assert bits(found) == bits(there_is.by_the_program(CALLS["axes"], drawn("float32", shapes)))


def test_memory_that_is_there_twice_is_multiplied_once(there_is):
    (x,), (y,) = (drawn("float32", [(6, 5)]) for _ in range(2))
    there_is.by(agclip.clip_by_norm_, [x, x], 0.5, axes=1)
    assert "agclip_norm_2" in there_is.launches
    assert bits([x]) == bits(there_is.by_the_program(CALLS["axes"], [y]))


def test_factors_of_a_graph_stay_where_they_are(host, entries):
    """A graph that is replayed reads what its kernels have written, wherever that is."""
    host.capturing = True
    with device(host, entries) as made:
        agclip.clip_by_norm(drawn("float32", [(4, 3), (2, 5)]), 0.5, axes=-1)
    kept = made.seam.room._kept
    held = [x for memory in kept for x in memory if isinstance(x, cupy_rehearsal.Array)]
    assert {x.shape for x in held} >= {(6,), (6, 8)}
