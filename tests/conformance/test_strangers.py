"""(Function | rule) × (new | in place) × libraries that agclip has no adapter for."""

import re

import numpy as np
import pytest

import agclip
import matrix
import strangers
from agclip.testing import Library
from agclip.testing._quick import quick_checks
from agclip.testing._report import report_on
from matrix import entries, require_nothing_written

pytest_plugins = ["matrix_fixtures"]
pytestmark = pytest.mark.whole

KINDS = {
    "dpnp": ["plain", "foreign", "an empty leaf", "nan, zero", "views of one memory"],
    "ndonnx": ["plain"],
    "cubed": ["plain"],
}
WITHOUT = {"cubed": {"AutoClip": "sort", "PerGroup": "sort"}}
"""The rules that need a function of the standard which a library lacks."""
CELLS = [(name, kind) for name, kinds in KINDS.items() for kind in kinds]


@pytest.fixture(params=CELLS, ids="-".join)
def cell(request):
    name, kind = request.param
    return strangers.stranger(name), matrix.KINDS[kind]


FORGETTING = ("clip", "adaptive")
"""How the names of functions and of rules without a memory begin."""


def home(x):
    """The class of an array; and what cubed computes it by."""
    return type(x), getattr(x, "spec", None)


def steps_of(subject, kind, lib, *, inplace):
    """How many steps of a run are taken: what is bad comes second, and most remember nothing."""
    least = 1 if kind.bad is None else 2
    told = (strangers.STEPS_IN_PLACE if inplace else strangers.STEPS)[lib.name]
    return least if subject.public.lower().startswith(FORGETTING) else max(least, told)


def run(subject, kind, lib, *, inplace):
    trees, params = matrix.trees_of(kind, lib)
    trees = trees[: steps_of(subject, kind, lib, inplace=inplace)]
    read = strangers.READ.get(lib.name, subject.name) == subject.name
    with matrix.setting(kind, lib):
        results, facts = subject.run(trees, params, kind.policy, inplace=inplace, read=read)
    return trees, results, facts


def test_results_are_what_the_oracle_says_and_belong_where_the_arrays_do(cell, subject):
    lib, kind = cell
    missing = WITHOUT.get(lib.name, {}).get(subject.name)
    if missing is not None:
        with pytest.raises(NotImplementedError, match=f"got none called {missing}"):
            run(subject, kind, lib, inplace=False)
        return
    wanted = subject.oracle(matrix.run_of(kind), kind.policy)
    trees, new, facts = run(subject, kind, lib, inplace=False)
    for result, tree, step in zip(new, trees, wanted, strict=False):
        assert list(map(home, matrix.leaves_of(result))) == list(map(home, matrix.leaves_of(tree)))
        for got, right in zip(entries(lib, result), step, strict=True):
            assert got == pytest.approx(right, rel=3e-7, abs=1e-12, nan_ok=True)
    if subject.inplace and lib.name in strangers.WRITABLE:
        trees, results, found = run(subject, kind, lib, inplace=True)
        same = [entries(lib, x) for x in new[: len(trees)]]
        assert repr([entries(lib, tree) for tree in trees]) == repr(same)
        assert all(result is tree for result, tree in zip(results, trees, strict=True))
        assert repr(found) == repr(facts[: len(found)])


def test_arrays_that_cannot_be_written_are_refused_and_kept(twin):
    lib = strangers.stranger("cubed")
    trees, params = matrix.trees_of(matrix.KINDS["plain"], lib)
    with pytest.raises(TypeError, match="written in place"):
        twin.run(trees, params, "propagate", inplace=True)


WRONG = {
    "truth values": lambda lib: lib.array([True, False], "bool"),
    "no array": lambda _: "abc",
    "another library": lambda _: np.ones(2, np.float32),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", strangers.WRITABLE)
def test_nothing_is_written_when_the_last_leaf_is_wrong(name, twin, wrong):
    lib = strangers.stranger(name)
    require_nothing_written(twin, lib, WRONG[wrong](lib))


KNOWN = {
    # onnxruntime 1.32 selects +0.0 for -0.0: github.com/microsoft/onnxruntime/issues/32191.
    "ndonnx": r"entry \d+,? must be (-0\.0 within .*; got 0\.0, 0 ulp off|0\.0; got -0\.0)",
    "cubed": "got none called sort",
}
"""What is wrong with a library itself, where checks fail by it."""


@pytest.mark.parametrize("name", strangers.NAMES)
def test_the_quick_part_of_the_suite(name):
    lib = strangers.stranger(name)
    xp = agclip._backends.registry.resolve(lib.array([1.0])).xp
    with np.errstate(all="ignore"):
        report = report_on(Library(name, xp=xp, ignored_warnings=(RuntimeWarning,)), quick_checks())
    failed, known = [one.detail for one in report.of("failed")], KNOWN.get(name)
    assert [text for text in failed if known is None or not re.search(known, text)] == []
    assert bool(failed) == (known is not None)


# --- cubed: an array belongs to a Spec ---------------------------------------------------------


def test_the_arrays_here_have_a_spec_of_their_own():
    x = strangers.stranger("cubed").array([1.0])
    assert x.spec != strangers.module("cubed.array_api").asarray([1.0]).spec


CALLS = {
    "leaves": lambda a, b: agclip.clip_by_norm([a, b], 1.0),
    "leaves of one norm": lambda a, b: agclip.clip_by_global_norm([a, b], 1.0),
    "a bound": lambda a, b: agclip.clip_by_norm(a, b[0]),
    "a bound of values": lambda a, b: agclip.clip_by_value(a, 0.0, b[0]),
    "a norm": lambda a, b: agclip.clip_by_global_norm([a], 1.0, b[0]),
    "a loss scale": lambda a, b: agclip.clip_by_rms(a, 1.0, loss_scale=b[0]),
    "parameters": lambda a, b: agclip.adaptive_grad_clip(a, b, unit_axes="in_out"),
    "a rule's leaves": lambda a, b: agclip.AdaGC().update([a, b], agclip.AdaGC().init([a, b])),
    "a rule's state": lambda a, b: agclip.ZClip().update([a], agclip.ZClip().init([b])),
    "a state of every entry": lambda a, b: agclip.SpikeClip().update(
        [a], agclip.SpikeClip().init([b])
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_arrays_of_two_specs_in_a_call_are_refused(call):
    lib, cubed = strangers.stranger("cubed"), strangers.module("cubed")
    other = strangers.module("cubed.array_api").asarray(
        [1.0, 2.0], spec=cubed.Spec(allowed_mem="400MB")
    )
    with pytest.raises(TypeError, match="must be on one device where cubed moves none to another"):
        CALLS[call](lib.array([3.0, 4.0]), other)


def test_a_spec_is_kept_on_the_way_through_another_library():
    lib = strangers.stranger("cubed")
    x = lib.array([3.0, 4.0])
    with agclip.config_context(backend="numpy", on_foreign="convert"):
        clipped = agclip.clip_by_norm(x, 1.0)
    assert clipped.spec == x.spec
    assert clipped.compute().tolist() == pytest.approx([0.6, 0.8])


# --- dpnp: memory that is shared with devices ---------------------------------------------------


def test_a_broadcast_array_of_dpnp_is_refused_in_place(twin):
    strangers.stranger("dpnp")
    dpnp = strangers.module("dpnp")
    good = dpnp.full((2, 2), 8.0)
    odd = dpnp.broadcast_to(dpnp.ones(1), (3,))
    tree = {"w": good, "b": odd}
    with pytest.raises(TypeError, match="several elements in the same memory"):
        twin.run([tree], tree, "propagate", inplace=True)
    assert dpnp.asnumpy(good).tolist() == [[8.0, 8.0], [8.0, 8.0]]


def test_arrays_of_dpnp_that_share_a_part_of_their_memory_are_refused_in_place():
    strangers.stranger("dpnp")
    dpnp = strangers.module("dpnp")
    whole = dpnp.arange(6.0)
    with pytest.raises(TypeError, match=r"share a part of their memory, at t\[0\] and t\[1\]"):
        agclip.clip_by_norm_([whole[:4], whole[2:]], 1.0)
    assert dpnp.asnumpy(whole).tolist() == [0, 1, 2, 3, 4, 5]


# --- ndonnx: written down as a program ----------------------------------------------------------


def _program(subject, lengths):
    """Return what a program of ONNX makes of a step, of arrays whose values nobody knows yet."""
    ndonnx, runtime = strangers.module("ndonnx"), strangers.module("onnxruntime")
    step = matrix.run_of(matrix.KINDS["plain"])[0]
    arguments = {
        leaf.name: ndonnx.argument(
            shape=leaf.shape if lengths else (f"{leaf.name}0", *leaf.shape[1:]),
            dtype=ndonnx.float32,
        )
        for leaf in step
    }
    if subject.make is None:
        (clipped,), _ = subject.run([arguments], arguments, "propagate", inplace=False)
    else:
        clipped, _, _ = subject.make(nonfinite="propagate").update(arguments, (), arguments)
    model = ndonnx.build(arguments, {f"new_{name}": x for name, x in clipped.items()})
    session = runtime.InferenceSession(model.SerializeToString())
    given = {leaf.name: np.array(leaf.entries, np.float32).reshape(leaf.shape) for leaf in step}
    return [x.ravel().tolist() for x in session.run(None, given)]


@pytest.mark.parametrize("lengths", [True, False], ids=["lengths known", "lengths unknown"])
def test_a_lazy_array_of_ndonnx_becomes_a_program(subject, lengths, monkeypatch):
    strangers.module("ndonnx")
    if subject.public.lower().startswith("adaptive"):
        pytest.skip("the oracle has other parameters")
    monkeypatch.setattr(matrix, "_host", lambda x: x)
    if subject.name in NO_PROGRAM and not (lengths and subject.name in ONLY_LENGTHS):
        with pytest.raises(ValueError, match=NO_PROGRAM[subject.name]):
            _program(subject, lengths)
        return
    wanted = subject.oracle(matrix.run_of(matrix.KINDS["plain"]), "propagate")[0]
    for got, right in zip(_program(subject, lengths), wanted, strict=True):
        assert got == pytest.approx(right, rel=3e-7, abs=1e-12)


NO_PROGRAM = {"SpikeClip": "must have the shapes that the state was made for"}
ONLY_LENGTHS = ("SpikeClip",)


# --- autograd: within a function that is differentiated -----------------------------------------

FUNCTIONS = [
    name
    for name, one in matrix.SUBJECTS.items()
    if one.make is None and not one.public.startswith("adaptive")
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_autograd_differentiates_through_a_clip(name, monkeypatch):
    autograd, anp = strangers.module("autograd"), strangers.module("autograd.numpy")
    monkeypatch.setattr(matrix, "_host", lambda x: x)
    subject = matrix.SUBJECTS[name]
    step = matrix.run_of(matrix.KINDS["plain"])[1]
    base = [np.array(leaf.entries).reshape(leaf.shape) for leaf in step]

    def total(w, b):
        (clipped,), _ = subject.run([{"w": w, "b": b}], None, "propagate", inplace=False)
        return anp.sum(clipped["w"] ** 3) + anp.sum(clipped["b"] ** 3)

    slopes = autograd.grad(total, (0, 1))(*base)
    for k, slope in enumerate(slopes):
        for at in np.ndindex(*base[k].shape):
            ends = []
            for step_width in (1e-6, -1e-6):
                moved = [x.copy() for x in base]
                moved[k][at] += step_width
                ends.append(total(*moved))
            assert slope[at] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-6)


def test_in_place_an_array_that_autograd_records_is_refused():
    autograd, anp = strangers.module("autograd"), strangers.module("autograd.numpy")

    def total(x):
        with pytest.raises(TypeError, match="written in place"):
            agclip.clip_by_norm_([x], 1.0)
        return anp.sum(x)

    assert autograd.grad(total)(np.ones(2)).tolist() == [1.0, 1.0]


def test_a_rule_with_memory_says_that_autograd_has_no_arrays_of_its_own():
    autograd, anp = strangers.module("autograd"), strangers.module("autograd.numpy")
    rule, words = agclip.QuantileClip(0.5), re.escape("`state` must hold arrays of autograd")

    def total(x):
        with pytest.raises(TypeError, match=words):
            rule.update([x], rule.init([np.ones(2)]))
        return anp.sum(x)

    autograd.grad(total)(np.ones(2))
