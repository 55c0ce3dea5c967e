"""Backends that are wrong, each in one way: the conformance suite catches and names them all."""

import dataclasses
import warnings

import numpy as np
import pytest

import agclip
from agclip._backends import registry
from agclip.testing import Library, check_backend
from agclip.testing._quick import quick_checks
from agclip.testing._report import fixed_checks, report_on
from agclip.testing.checks import sampling
from agclip.testing.harness.check import ConformanceError

NUMPY = agclip.get_backend("numpy")

CHECKS = {check.name: check for check in (*fixed_checks(), *sampling.checks())}


@pytest.fixture
def register():
    """Replace a backend until the end of the test."""
    before = dict(registry._registered)
    yield agclip.register_backend
    registry._registered.clear()
    registry._registered.update(before)
    registry.BY_TYPE.clear()


def norm_off(xp, leaves, acc_dtype, scale):
    return [s * (1 + 2e-3) for s in NUMPY.sum_squares(xp, leaves, acc_dtype, scale)]


def norm_that_overflows(xp, leaves, acc_dtype, scale):
    return [float(np.sum(np.square(leaf, dtype=leaf.real.dtype))) for leaf in leaves]


def norm_that_writes(xp, leaves, acc_dtype, scale):
    sums = NUMPY.sum_squares(xp, leaves, acc_dtype, scale)
    for leaf in leaves:
        np.multiply(leaf, 2, out=leaf)
    return sums


def norm_that_forgets_a_leaf(xp, leaves, acc_dtype, scale):
    sums = NUMPY.sum_squares(xp, leaves, acc_dtype, scale)
    return [*sums[:1], *(0.0 for _ in sums[1:])]


def norm_that_drops_nan(xp, leaves, acc_dtype, scale):
    return [float(np.nansum(np.abs(leaf).astype(acc_dtype) ** 2 * scale**2)) for leaf in leaves]


def scale_that_widens(xp, leaves, factor):
    return [np.asarray(leaf, dtype=np.float64) for leaf in NUMPY.scale(xp, leaves, factor)]


WIDENS = {
    "scale": scale_that_widens,
    "scale_each": lambda *_: None,
    "restore": lambda _, new: new,
}


def scale_that_loses_signs(xp, leaves, factor):
    return [np.asarray(leaf + 0, leaf.dtype) for leaf in NUMPY.scale(xp, leaves, factor)]


def scale_that_flattens(xp, leaves, factor):
    return [np.atleast_1d(leaf) for leaf in NUMPY.scale(xp, leaves, factor)]


def scale_twice_rounded(xp, leaves, factor):
    return [(leaf * np.asarray(factor.narrow[1], leaf.dtype)) for leaf in leaves]


def scale_in_place_but_the_last(xp, leaves, factor):
    NUMPY.scale_(xp, leaves[:-1], factor)


def scale_in_place_with_copies(xp, leaves, factor):
    NUMPY.scale_(xp, [leaf.copy() for leaf in leaves], factor)


def run_that_warns(program, static, arrays):
    warnings.warn("overflow encountered in multiply", RuntimeWarning, stacklevel=2)
    return program(*static, *arrays)


WRONG = {
    "norm off by 1e-3": (
        {"sum_squares": norm_off},
        "vector clip_by_global_norm: worked example",
        r"result\[0\]\[0\], entry 0 must be -1.6 within 1.5 ulp of float32; got -1.59",
    ),
    "norm off by 1e-3, as a property": (
        {"sum_squares": norm_off},
        "property norm and entries are right",
        "must be .* within .* ulp",
    ),
    "norm that overflows": (
        {"sum_squares": norm_that_overflows},
        "vector global_norm: size 1e+20, bfloat16",
        "got inf",
    ),
    "norm that writes into the leaves": (
        {"sum_squares": norm_that_writes},
        "input is untouched [clip_by_global_norm]",
        "the argument of clip_by_global_norm, entry 0, must be 1.5; got 3.0",
    ),
    "norm that writes before it fails": (
        {"sum_squares": norm_that_writes},
        "failure writes nothing [clip_by_rms, not finite]",
        "the tree after FloatingPointError of clip_by_rms, not finite, entry 0, must be 3.0",
    ),
    "norm that forgets a leaf": (
        {"sum_squares": norm_that_forgets_a_leaf},
        "property strict norm is never above the bound",
        "the norm must be <= ",
    ),
    "norm that drops NaN": (
        {"sum_squares": norm_that_drops_nan},
        "vector clip_by_global_norm: NaN, propagate",
        "must be nan within 1.5 ulp",
    ),
    "scale that changes the dtype": (
        WIDENS,
        "leaves keep their kind [clip_by_norm, float32]",
        "clip_by_norm, float32 must keep the dtype float32; got float64",
    ),
    "scale that loses the sign of zero": (
        {"scale": scale_that_loses_signs},
        "vector clip_by_norm: bound of zero, float32",
        "entry 1 must be -0.0 within 1.5 ulp of float32; got 0.0",
    ),
    "scale that changes the shape": (
        {"scale": scale_that_flattens},
        "leaves keep their kind [clip_by_global_norm, float32]",
        r"clip_by_global_norm, float32 must keep the shape \(\); got \(1,\)",
    ),
    "scale that rounds the coefficient to half": (
        {"scale": scale_twice_rounded},
        "vector clip_by_norm: five in a row, float16",
        "within 0.51 ulp of float16",
    ),
    "in place, but for the last leaf": (
        {"scale_": scale_in_place_but_the_last},
        "in place equals functional [clip_by_global_norm]",
        "what clip_by_global_norm writes, entry 7, must be",
    ),
    "in place into copies": (
        {"scale_": scale_in_place_with_copies},
        "property in place gives the same bits",
        "in place, entry 0, must be",
    ),
    "in place on what is read-only": (
        {"unwritable": lambda _: None},
        "read only leaves are found first [clip_by_norm]",
        "the tree after clip_by_norm with ValueError: .*read-only, entry 0, must be 3.0",
    ),
    "access that lies about what is free": (
        {"branch": lambda _, p, yes, no: [x + 0 for x in (yes() if p else no())]},
        "unclipped is the same object [adaptive_grad_clip]",
        "adaptive_grad_clip must return the leaves themselves; got copies",
    ),
}


@pytest.fixture(params=WRONG)
def wrong(request, register):
    """A library with a backend that is wrong, the check that finds it, and what that says."""
    changes, name, message = WRONG[request.param]
    register(dataclasses.replace(NUMPY, **changes))
    extension = {} if "bfloat16" not in name else {"bfloat16": _bfloat16()}
    return Library("numpy", dtypes=extension), CHECKS[name], message


def _bfloat16():
    return pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16


def test_what_is_wrong_is_caught_and_named(wrong):
    library, check, message = wrong
    with pytest.raises(ConformanceError, match=message):
        check.run(library)


def test_the_few_checks_of_the_command_line_catch_it_too(wrong):
    library, _, _ = wrong
    assert not report_on(library, quick_checks()).ok


def test_a_call_that_warns_is_found_out(register):
    register(dataclasses.replace(NUMPY, run=run_that_warns))
    check = CHECKS["vector clip_by_norm: complex128, size 1e200"]
    assert [type(warning) for warning in check.run(Library("numpy"))][:1] == [RuntimeWarning]


def test_a_report_names_what_is_wrong_and_goes_on(register):
    register(dataclasses.replace(NUMPY, **WIDENS))
    report = check_backend("numpy")
    failed = {outcome.name for outcome in report.of("failed")}
    assert not report.ok
    assert "leaves keep their kind [clip_by_norm, float32]" in failed
    assert "vector global_norm: worked example" not in failed
    assert "  FAILED leaves keep their kind [clip_by_norm, float32]\n" in str(report)
    assert sum(report.counts) == len(report.outcomes) == len(CHECKS)


def test_a_backend_that_breaks_is_a_report_too(register):
    def broken(*_):
        msg = "out of memory"
        raise MemoryError(msg)

    register(dataclasses.replace(NUMPY, sum_squares=broken))
    report = check_backend(Library("numpy", "broken numpy"))
    failure = next(o for o in report.of("failed") if o.name == "vector global_norm: worked example")
    assert failure.detail.startswith("MemoryError: out of memory\nin broken, ")
    assert str(report).startswith(f"broken numpy {np.__version__}: ")


def test_arrays_that_belong_to_another_backend_are_found(register):
    register(dataclasses.replace(NUMPY, name="mylib"))
    with pytest.raises(ConformanceError, match="arrays must belong to mylib; got numpy"):
        CHECKS["arrays belong to the backend"].run(Library("mylib"))
